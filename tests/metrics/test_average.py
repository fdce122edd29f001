import pytest
import torch
from cases import normal, symmetric
from quadratics import quadratic
from torch import nn
from torch.nn import functional as F

from landscape.metrics import average_gap
from landscape.problem import Problem

A = symmetric(torch.linspace(0.5, 3, 8))
W = normal(8, seed=3)


@pytest.mark.parametrize("geometry", ["euclidean", "adaptive"])
def test_is_half_the_scaled_trace_on_a_quadratic(geometry: str) -> None:
    scale = torch.ones(8).double() if geometry == "euclidean" else W.abs() + 0.2
    expected = float(0.5 * 0.04 * (scale**2 * A.diagonal()).sum())
    found = average_gap(quadratic(A, w=W), rho=0.2, geometry=geometry, eta=0.2, draws=400)
    assert abs(found.value - expected) < 4 * found.stderr < expected


def test_the_standard_error_is_that_of_the_mean() -> None:
    values = []
    for seed in range(60):
        values.append(average_gap(quadratic(A), rho=0.2, draws=10, generator=torch.Generator().manual_seed(seed)))
    spread = torch.stack([found.value for found in values]).std()
    claimed = torch.stack([found.stderr for found in values]).square().mean().sqrt()
    assert 0.75 < spread / claimed < 1.33  # 60 runs: the ratio's own error is about 0.1


def test_normalised_logits_do_not_see_their_scale() -> None:
    model = nn.Linear(4, 3).double()
    x, y = normal(16, 4), torch.arange(16) % 3
    problem = Problem(model, F.cross_entropy, [(x, y)], forward=lambda net, inputs: 5 * net(inputs))
    plain = Problem(model, F.cross_entropy, [(x, y)])
    found, same = (average_gap(q, rho=0.1, normalize_logits=True).value for q in (problem, plain))
    assert found.item() == pytest.approx(same.item(), rel=1e-9)
    assert abs(average_gap(problem, rho=0.1).value - average_gap(plain, rho=0.1).value) > 0.1 * found


def test_a_seed_gives_the_same_value() -> None:
    first, second = (average_gap(quadratic(A), generator=torch.Generator().manual_seed(5)).value for _ in range(2))
    assert first == second


@pytest.mark.parametrize("settings", [{"rho": 0.0}, {"geometry": "fisher"}, {"draws": 1}, {"eta": -1.0}])
def test_bad_settings(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
        average_gap(quadratic(A), **settings)
