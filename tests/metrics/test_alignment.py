import pytest
import torch
from cases import normal, symmetric
from quadratics import quadratic

from landscape.curvature import hessian
from landscape.metrics import eigenvector_alignment, gradient_cosine

A, B = symmetric(torch.tensor([-3.0, -0.5, 0.1, 1.0, 2.0, 4.0])), normal(6)


def test_cosine_of_a_quadratic() -> None:
    g = B
    moved = B + 0.3 * A @ g / g.norm()
    expected = torch.nn.functional.cosine_similarity(g, moved, dim=0)
    assert gradient_cosine(quadratic(A, B), rho=0.3).value.item() == pytest.approx(expected.item(), rel=1e-10)
    assert gradient_cosine(quadratic(A)).value == 1  # a stationary point


def test_alignment_with_the_sharpest_direction() -> None:
    problem = quadratic(A, B)
    v = torch.linalg.eigh(hessian(problem).dense())[1][:, -1]
    found = eigenvector_alignment(problem)
    assert abs(found.value - (B @ v).abs() / B.norm()) <= found.stderr + 1e-12
    assert eigenvector_alignment(quadratic(A, 2 * v)).value.item() == pytest.approx(1, abs=1e-6)
    assert eigenvector_alignment(quadratic(A)).value == 0


def test_rho_must_be_positive() -> None:
    with pytest.raises(ValueError, match="rho must be positive"):
        gradient_cosine(quadratic(A, B), rho=0.0)
