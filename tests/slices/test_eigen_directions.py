import pytest
import torch
from cases import normal, symmetric
from quadratics import quadratic

from landscape.curvature import hessian
from landscape.linalg import top_eigenpairs
from landscape.slices import hessian_directions

SPECTRUM = torch.tensor([8.0, 5.0, 2.0, 0.5, -1.0, -3.0], dtype=torch.float64)


def test_a_step_of_one_raises_a_quadratic_loss_by_one():
    A = symmetric(SPECTRUM)
    problem = quadratic(A)  # at its stationary point
    for direction in hessian_directions(problem):
        assert float(problem.loss(direction)) == pytest.approx(1.0, rel=1e-8)
        assert float(problem.loss(-direction)) == pytest.approx(1.0, rel=1e-8)
    downwards = hessian_directions(problem, 1, which="SA")
    assert float(problem.loss(downwards[0])) == pytest.approx(-1.0, rel=1e-8)


def test_they_are_the_dense_eigenvectors_with_their_values():
    A = symmetric(SPECTRUM)
    problem = quadratic(A, w=normal(6))
    found = hessian_directions(problem, 3, scale=None)
    values, vectors = torch.linalg.eigh(A)
    torch.testing.assert_close((torch.stack(list(found)) @ vectors.flip(1)[:, :3]).abs(), torch.eye(3).double())
    torch.testing.assert_close(torch.tensor(found.details["eigenvalues"]).double(), values.flip(0)[:3])
    assert all(v[v.abs().argmax()] > 0 for v in found)


def test_model_scale_is_the_norm_of_the_weights():
    problem = quadratic(symmetric(SPECTRUM), w=normal(6))
    norm = problem.vector().norm()
    torch.testing.assert_close(hessian_directions(problem, scale="model").norms, norm.expand(2))


def test_known_eigenpairs_are_used_and_must_fit():
    problem = quadratic(symmetric(SPECTRUM))
    pairs = top_eigenpairs(hessian(problem), 3, which="SA")
    assert hessian_directions(problem, pairs=pairs).details["eigenvalues"] == pairs.values[:2].tolist()
    with pytest.raises(ValueError, match=r"pairs must hold vectors of shape \(6, 4\), got \(6, 3\)"):
        hessian_directions(problem, 4, pairs=pairs)


def test_a_flat_direction_has_no_curvature_scale():
    with pytest.raises(ValueError, match="pass scale='model'"):
        hessian_directions(quadratic(torch.zeros(4, 4, dtype=torch.float64)))
