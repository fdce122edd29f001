import pytest
import torch
from cases import Counting, normal, seeded, symmetric

from landscape.linalg.deflation import Deflated, outlying
from landscape.linalg.operator import MatrixOperator

values = torch.cat([torch.linspace(-1, 1, 45), torch.tensor([9.0, 6.0, -4.0])])
matrix = symmetric(values)


def test_the_rest_has_the_other_eigenvalues_and_zeros():
    found, vectors, _ = outlying(MatrixOperator(matrix), 3, 1000, seeded())
    torch.testing.assert_close(found, torch.tensor([9.0, 6.0, -4.0]).double(), rtol=1e-7, atol=0)
    rest = Deflated(MatrixOperator(matrix), vectors).dense()
    expected = torch.cat([values[:45], torch.zeros(3)]).double().sort().values
    torch.testing.assert_close(torch.linalg.eigvalsh(rest), expected, rtol=0, atol=1e-6)


def test_whatever_is_taken_out_the_traces_add_up():
    V = torch.linalg.qr(normal(48, 5))[0]
    rest = Deflated(MatrixOperator(matrix), V)
    total = torch.trace(V.T @ matrix @ V) + rest.dense().trace()
    torch.testing.assert_close(total, matrix.trace(), rtol=1e-12, atol=0)
    assert (V.T @ (rest @ normal(48, 2))).abs().max() < 1e-13


@pytest.mark.parametrize(("count", "limit"), [(0, 1), (5, 6)])
def test_what_does_not_converge_stays(count, limit):
    A = Counting(matrix)
    found, vectors, spent = outlying(A, count, limit, seeded())
    assert len(found) == vectors.shape[1] < max(1, count)
    assert spent == A.count <= limit
