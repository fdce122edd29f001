import pytest
import torch
from cases import make

from landscape.metrics import m_sharpness, surrogate_gap


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
