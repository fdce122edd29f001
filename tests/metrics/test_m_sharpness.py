from math import inf

import pytest
import torch
from cases import make

from landscape.metrics import m_sharpness, m_sharpness_curve, surrogate_gap, worst_case_gap


@pytest.mark.parametrize("m", [1, 7, 30, 64, 100])
def test_equals_the_mean_over_subsets_cut_across_batches(m: int) -> None:
    case = make("mlp")
    total = 0.0
    for x, y in zip(case.inputs.split(m), case.targets.split(m), strict=True):
        total += len(y) * surrogate_gap(case.problem(data=[(x, y)]), rho=0.1).value
    assert m_sharpness(case.problem(), m=m, rho=0.1).value.item() == pytest.approx(float(total / 64), rel=1e-12)


def test_token_subsets_are_weighted_by_their_units() -> None:
    case = make("tokens")
    total = 0.0
    for x, y in zip(case.inputs.split(16), case.targets.split(16), strict=True):
        total += (y != -1).sum() * surrogate_gap(case.problem(data=[(x, y)]), rho=0.1).value
    expected = float(total / (case.targets != -1).sum())
    assert m_sharpness(case.problem(), m=16, rho=0.1).value.item() == pytest.approx(expected, rel=1e-12)


def test_smaller_subsets_look_sharper() -> None:
    problem = make("mlp").problem()
    values = [m_sharpness(problem, m=m, rho=0.1).value for m in (1, 4, 16, 64)]
    assert values == sorted(values, reverse=True)


def test_m_must_be_a_positive_integer() -> None:
    with pytest.raises(ValueError, match="m must be an integer at least 1, got 0"):
        m_sharpness(make("mlp").problem(), m=0)


def test_mapping_inputs_are_cut_too() -> None:
    problem = make("mapping").problem()
    assert torch.isfinite(m_sharpness(problem, m=5).value)


def test_the_published_setting_is_the_mean_over_subsets_of_the_worst_case_with_normalised_logits() -> None:
    case = make("mlp")
    settings = {"rho": 0.2, "geometry": "adaptive", "p": inf, "steps": 3, "normalize_logits": True}
    parts = [case.problem(data=[(x, y)]) for x, y in zip(case.inputs.split(16), case.targets.split(16), strict=True)]
    expected = torch.stack([worst_case_gap(part, **settings).value for part in parts])
    found = m_sharpness(case.problem(), m=16, **settings)
    assert found.value.item() == pytest.approx(expected.mean().item(), rel=1e-12)
    fewer = m_sharpness(case.problem(), m=16, points=30, **settings)
    assert fewer.value.item() == pytest.approx(expected[:2].mean().item(), rel=1e-12)
    assert fewer.details["subsets"] == 2


def test_a_curve_over_m() -> None:
    problem = make("mlp").problem()
    found = m_sharpness_curve(problem, (4, 64), rho=0.1)
    assert found.value.tolist() == [m_sharpness(problem, m=m, rho=0.1).value.item() for m in (4, 64)]
    with pytest.raises(ValueError, match="m must hold at least one size"):
        m_sharpness_curve(problem, ())
