import numpy as np
import oracles
import pytest
import torch
from cases import Counting, normal, symmetric
from scipy.sparse.linalg import eigsh

from landscape.linalg.operator import MatrixOperator

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


def test_scipy_hands_over_any_array():
    A, M, V = MatrixOperator(matrix).to_scipy(), matrix.numpy(), normal(20, 4).numpy()
    fixed = V.copy()
    fixed.flags.writeable = False
    arrays = {
        "columns backwards": V[:, ::-1],
        "rows backwards": V[::-1],
        "a vector backwards": V[::-1, 0],
        "every other": normal(40, 4).numpy()[::2, ::2],
        "read-only": fixed,
        "broadcast": np.broadcast_to(V[:, :1], (20, 3)),
        "Fortran": np.asfortranarray(V),
        "big-endian": V.astype(">f8"),
        "integers": np.arange(40).reshape(20, 2),
        "complex": V[:, :2] + 1j * V[:, 2:],
        "no columns": V[:, :0],
    }
    for name, array in arrays.items():
        np.testing.assert_allclose(A @ array, M @ array, rtol=0, atol=1e-12, err_msg=name)
    single = MatrixOperator(matrix.float()).to_scipy() @ V[:, ::-1]
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, M @ V[:, ::-1], rtol=0, atol=1e-5)


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
