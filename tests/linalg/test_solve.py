import pytest
import torch
from cases import normal, symmetric

from landscape.linalg.operator import MatrixOperator
from landscape.linalg.solve import solve


def test_equals_a_dense_solve_far_beyond_the_condition_of_plain_conjugate_gradients() -> None:
    A = symmetric(torch.logspace(-9, 3, 40))
    b = A @ normal(40)
    found = solve(MatrixOperator(A), b, tol=1e-12)
    assert found.matvecs <= 40
    assert (A @ found.x - b).norm() <= 1e-9 * b.norm()


def test_stops_at_tolerance_after_as_many_steps_as_distinct_eigenvalues() -> None:
    A = symmetric(torch.tensor([1.0, 5.0, 9.0]).repeat(10))
    found = solve(MatrixOperator(A), normal(30))
    assert found.matvecs == 3
    assert found.relative_residual < 1e-8


def test_a_singular_operator_with_a_right_side_in_its_range() -> None:
    A = symmetric(torch.cat([torch.zeros(20), torch.linspace(1, 2, 10)]))
    b = A @ normal(30)
    assert torch.allclose(solve(MatrixOperator(A), b).x, torch.linalg.pinv(A, rtol=1e-10) @ b, rtol=1e-6)


def test_an_early_stop_keeps_the_galerkin_identity() -> None:
    A = symmetric(torch.logspace(-3, 3, 40))
    b = normal(40)
    found = solve(MatrixOperator(A), b, damping=0.1, max_matvecs=5)
    assert found.matvecs == 5
    assert found.x @ (A @ found.x + 0.1 * found.x) == pytest.approx((b @ found.x).item(), rel=1e-9)


def test_zero_right_side_and_bad_settings() -> None:
    A = MatrixOperator(torch.eye(3).double())
    assert solve(A, torch.zeros(3).double()).x.norm() == 0
    for settings in ({"damping": -1.0}, {"tol": 0.0}, {"max_matvecs": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(settings))} must be"):
            solve(A, torch.ones(3).double(), **settings)
    with pytest.raises(ValueError, match=r"b must be \(3,\) float64"):
        solve(A, torch.ones(4).double())
