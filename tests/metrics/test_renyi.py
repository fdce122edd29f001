from math import log

import pytest
import torch
from cases import make, normal, symmetric
from quadratics import quadratic
from torch import nn
from torch.nn import functional as F

from landscape.curvature import hessian, hessian_blocks
from landscape.linalg import spectral_density
from landscape.metrics import renyi, whole_density
from landscape.problem import Problem

SPECTRUM = torch.tensor([-2.0, -0.1, 0.0, 0.3, 0.5, 1.0, 4.0, 8.0], dtype=torch.float64)


def entropy(spectrum: torch.Tensor, order: float) -> float:
    q = spectrum.abs() / spectrum.abs().sum()
    if order == 1:
        return float(-torch.special.xlogy(q, q).sum())
    return float((q**order).sum().log() / (1 - order))


@pytest.mark.parametrize("order", [0.5, 1, 1.5, 2, 7])
def test_known_spectrum(order: float) -> None:
    found = renyi(quadratic(symmetric(SPECTRUM)), order=order)
    assert found.value.item() == pytest.approx(-entropy(SPECTRUM, order), rel=1e-6)
    assert found.stderr == 0


@pytest.mark.parametrize("order", [0.5, 1, 2])
def test_extremes_and_scale(order: float) -> None:
    flat, single = torch.ones(6).double(), torch.tensor([3.0, 0, 0, 0, 0, 0]).double()
    assert renyi(quadratic(torch.diag(flat)), order=order).value.item() == pytest.approx(-log(6), rel=1e-12)
    assert renyi(quadratic(torch.diag(single)), order=order).value.item() == pytest.approx(0, abs=1e-6)
    scaled = renyi(quadratic(symmetric(1e-6 * SPECTRUM)), order=order).value
    assert scaled.item() == pytest.approx(renyi(quadratic(symmetric(SPECTRUM)), order=order).value.item(), rel=1e-6)


@pytest.mark.parametrize("order", [0.5, 1, 2])
def test_quadrature_agrees_within_its_error(order: float) -> None:
    spectrum = torch.linspace(0.2, 3, 120).double()
    problem = quadratic(symmetric(spectrum))
    errors = []
    for seed in range(20):
        found = renyi(problem, order=order, probes=6, steps=12, generator=torch.Generator().manual_seed(seed))
        assert found.stderr > 0
        errors.append((found.value + entropy(spectrum, order)) / found.stderr)
    assert torch.stack(errors).abs().median() < 2
    assert torch.stack(errors).abs().max() < 8  # six probes: Student's t with 5 degrees of freedom


def test_the_order_one_is_the_limit() -> None:
    problem = make("mlp").problem()
    near = [renyi(problem, order=order).value.item() for order in (1 - 1e-5, 1.0, 1 + 1e-5)]
    assert near[0] == pytest.approx(near[1], abs=1e-4)
    assert near[2] == pytest.approx(near[1], abs=1e-4)


def test_by_layer_gives_one_value_a_block() -> None:
    problem = make("mlp").problem()
    found = renyi(problem, by="layer")
    dense = [torch.linalg.eigvalsh(block.dense()) for block in hessian_blocks(problem).values()]
    assert found.value.tolist() == pytest.approx([-entropy(values, 2.0) for values in dense], rel=1e-9)
    assert found.stderr.shape == found.value.shape


def test_by_layer_weights_alone_do_not_see_a_rescaling_and_biases_do() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    at = Problem(net, F.cross_entropy, [(normal(60, 5), torch.arange(60) % 3)])
    before = {biases: renyi(at, by="layer", biases=biases).value for biases in (True, False)}
    with torch.no_grad():
        for parameter, factor in ((net[0].weight, 5.0), (net[0].bias, 5.0), (net[2].weight, 0.2)):
            parameter.mul_(factor)
    after = {biases: renyi(at, by="layer", biases=biases).value for biases in (True, False)}
    torch.testing.assert_close(after[False], before[False], rtol=1e-9, atol=0)
    assert (after[True] - before[True]).abs().max() > 0.01
    whole = torch.linalg.eigvalsh(hessian(at.restricted_to(["0.weight", "2.weight"])).dense())
    assert renyi(at, biases=False).value.item() == pytest.approx(-entropy(whole, 2.0), rel=1e-9)
    with pytest.raises(ValueError, match=r"parameters must hold at least one weight, got 0\.bias"):
        renyi(at.restricted_to(["0.bias"]), biases=False)


def test_a_density_at_hand_replaces_the_quadrature() -> None:
    problem = make("mlp").problem()
    density = spectral_density(hessian(problem), probes=5, steps=6, check=0)
    found = renyi(problem, density=density)
    assert found.matvecs == 30
    assert found.value == renyi(problem, probes=5, steps=6).value


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="order must be positive"):
        renyi(quadratic(symmetric(SPECTRUM)), order=0.0)
    with pytest.raises(ValueError, match="by must be one of"):
        renyi(quadratic(symmetric(SPECTRUM)), by="module")
    with pytest.raises(ValueError, match="the Hessian is zero"):
        renyi(quadratic(torch.zeros(3, 3).double()))


def test_several_orders_share_one_density_also_by_layer() -> None:
    problem = make("mlp").problem()
    orders, density = (0.5, 1.5, 2.0), whole_density(problem)
    together = renyi(problem, order=orders, density=density)
    each = [renyi(problem, order=order, density=density).value for order in orders]
    assert torch.equal(together.value, torch.stack(each))
    assert together.matvecs == density.matvecs
    by_layer = renyi(problem, order=orders, by="layer", probes=3, steps=4)
    assert by_layer.value.shape == by_layer.stderr.shape == (3, 2)
    assert torch.equal(by_layer.value[2], renyi(problem, order=2.0, by="layer", probes=3, steps=4).value)
