import pytest
import torch
from cases import make, normal, symmetric
from quadratics import quadratic

from landscape.metrics import adversarial_corruption, average_gap, random_corruption, surrogate_gap

A, B = symmetric(torch.linspace(0.5, 3, 8)), normal(8)


def test_the_random_curve_is_half_sigma_squared_times_the_trace_on_a_quadratic() -> None:
    sigmas = (0.1, 0.3, 1.0)
    found = random_corruption(quadratic(A), sigmas, draws=100)
    expected = torch.tensor([0.5 * s**2 for s in sigmas], dtype=torch.float64) * A.trace()
    assert ((found.value - expected).abs() < 4 * found.stderr).all()
    assert torch.allclose(found.value / expected, (found.value / expected)[:1].expand(3))  # the same draws for all


def test_a_point_of_the_random_curve_is_the_average_gap() -> None:
    problem = make("mlp").problem()
    curve, point = random_corruption(problem, [0.02, 0.05]), average_gap(problem, rho=0.05)
    assert curve.value[1].item() == pytest.approx(point.value.item(), rel=1e-9)
    assert curve.stderr[1].item() == pytest.approx(point.stderr.item(), rel=1e-9)


def test_the_adversarial_curve_is_the_surrogate_gap() -> None:
    problem = quadratic(A, B)
    found = adversarial_corruption(problem, [0.1, 0.7])
    expected = [surrogate_gap(problem, rho=rho).value.item() for rho in (0.1, 0.7)]
    assert found.value.tolist() == pytest.approx(expected, rel=1e-12)


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="sigmas must be positive and finite, got 0"):
        random_corruption(quadratic(A), [0.1, 0])
    with pytest.raises(ValueError, match="rhos must hold at least one number, got none"):
        adversarial_corruption(quadratic(A), [])
