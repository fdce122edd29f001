import numpy as np
import oracles
import pytest
import torch
from cases import Counting, normal, symmetric
from scipy.sparse.linalg import eigsh

from landscape.operator import MatrixOperator

matrix = symmetric(torch.linspace(-1, 3, 20))


def test_products_are_those_of_the_matrix():
    A, V = MatrixOperator(matrix), normal(20, 3)
    assert A.shape == (20, 20)
    assert torch.equal(A @ V, matrix @ V)
    assert torch.equal(A.matmat(V), matrix @ V)
    assert oracles.relative(A @ V[:, 0], matrix @ V[:, 0]) < 1e-14
    assert torch.equal(A.matvec(V[:, 0]), A @ V[:, 0])


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_dense_is_the_matrix_from_as_many_products_as_columns(chunk):
    A = Counting(matrix)
    assert torch.equal(A.dense(chunk=chunk), matrix)
    assert A.count == 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scipy_sees_the_same_operator(dtype):
    A = MatrixOperator(matrix.to(dtype)).to_scipy()
    V = normal(20, 3).numpy()
    expected = matrix.numpy() @ V
    tolerance = 1e-5 if dtype == torch.float32 else 1e-13
    for found, wanted in [
        (A @ V, expected),
        (A.T @ V, expected),
        (A @ V[:, 0], expected[:, 0]),
        (A @ V[:, :1], expected[:, :1]),
    ]:
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)
    largest = eigsh(A, k=1, which="LA", return_eigenvectors=False)
    np.testing.assert_allclose(largest, [3.0], rtol=tolerance)


def test_an_operator_does_not_change_with_the_tensor_it_was_made_from():
    own = matrix.clone()
    A = MatrixOperator(own)
    own.zero_()
    assert torch.equal(A.dense(), matrix)


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (normal(19), r"expected \(P,\) with P = 20, got \(19,\)"),
        (normal(19, 2), r"expected \(P, K\) with P = 20, got \(19, 2\)"),
        (normal(20, 0), r"expected \(P, K\) with P = 20, got \(20, 0\)"),
        (normal(2, 20, 1), r"expected \(P, K\) with P = 20, got \(2, 20, 1\)"),
        (normal(20).float(), r"expected torch.float64 on cpu, got torch.float32 on cpu; use .to\(\)"),
    ],
)
def test_a_vector_that_does_not_fit_is_named(vector, message):
    with pytest.raises(ValueError, match=message):
        MatrixOperator(matrix) @ vector


@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_unsymmetric_matrices_are_refused_at_every_scale(scale):
    MatrixOperator(matrix * scale)
    with pytest.raises(ValueError, match=r"matrix must be symmetric; use \(A \+ A.T\) / 2"):
        MatrixOperator((matrix + 0.01 * normal(20, 20)) * scale)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (normal(3, 2), r"matrix must be square, got \(3, 2\)"),
        (normal(3), r"matrix must be square, got \(3,\)"),
        (torch.eye(3).long(), "matrix must be floating, got torch.int64"),
        (torch.full((2, 2), float("nan")), "matrix must be finite, got NaN"),
    ],
)
def test_other_matrices_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        MatrixOperator(bad)
