import pytest
import torch
from cases import Counting, normal, symmetric

from landscape.linalg.lanczos import lanczos, orthogonalise
from landscape.linalg.operator import MatrixOperator

SPECTRA = {
    "spread": torch.linspace(-2, 5, 120),
    "decaying": torch.logspace(2, -10, 120),
    "tiny": 1e-6 * torch.linspace(-2, 5, 120),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_the_recurrence_holds_with_an_orthonormal_basis_beyond_fifty_steps(name):
    matrix, steps = symmetric(SPECTRA[name]), 80
    A = Counting(matrix)
    runs = lanczos(A, normal(120, 2), steps)
    scale = float(matrix.norm())
    for run in range(2):
        n = int(runs.lengths[run])
        V, T = runs.basis[run, :n].T, runs.matrix(run)
        assert (V.T @ V - torch.eye(n)).abs().max() < 1e-12
        last = torch.zeros(n, dtype=torch.float64)
        last[-1] = 1
        rest = matrix @ V - V @ T
        outside = rest - rest[:, -1:] * last
        assert outside.abs().max() < 1e-13 * scale
        assert abs(rest[:, -1].norm() - runs.offdiagonal[run, n - 1]) < 1e-12 * scale
    assert A.count == 2 * steps


def test_no_ghosts_an_outlier_comes_once():
    values = torch.cat([torch.linspace(0, 1, 199), torch.tensor([50.0])])
    runs = lanczos(MatrixOperator(symmetric(values)), normal(200, 1), 120)
    ritz = torch.linalg.eigvalsh(runs.matrix(0))
    assert (ritz > 1 + 1e-9).sum() == 1
    assert abs(ritz[-1] - 50) < 1e-11


def test_runs_share_products_but_not_results():
    A = MatrixOperator(symmetric(torch.linspace(-1, 4, 40)))
    starts = normal(40, 3)
    together = lanczos(A, starts, 12)
    for i in range(3):
        alone = lanczos(A, starts[:, i : i + 1], 12)
        torch.testing.assert_close(together.diagonal[i], alone.diagonal[0], rtol=1e-9, atol=0)


@pytest.mark.parametrize(("count", "length"), [(1, 1), (2, 2), (5, 5)])
def test_a_breakdown_comes_after_as_many_steps_as_there_are_distinct_eigenvalues(count, length):
    values = torch.arange(1.0, count + 1).repeat_interleave(8)
    runs = lanczos(MatrixOperator(symmetric(values)), normal(len(values), 2), 20)
    assert runs.lengths.tolist() == [length] * 2
    assert runs.diagonal[:, length:].abs().max() == 0
    ritz = torch.linalg.eigvalsh(runs.matrix(0))
    torch.testing.assert_close(ritz, torch.arange(1.0, count + 1).double(), rtol=1e-12, atol=0)


def test_zero_operator_zero_start_and_more_steps_than_entries():
    zero = MatrixOperator(torch.zeros(6, 6, dtype=torch.float64))
    assert lanczos(zero, normal(6, 1), 5).lengths.tolist() == [1]
    full = MatrixOperator(symmetric(torch.arange(1.0, 7.0)))
    starts = normal(6, 2)
    starts[:, 1] = 0
    runs = lanczos(full, starts, 50)
    assert runs.lengths.tolist() == [6, 1]
    torch.testing.assert_close(
        torch.linalg.eigvalsh(runs.matrix(0)), torch.arange(1.0, 7.0).double(), rtol=1e-12, atol=0
    )


def test_orthogonalise_splits_a_block():
    basis = torch.linalg.qr(normal(10, 3))[0].T[None]
    block = normal(1, 10, seed=1)
    rest, along = orthogonalise(block, basis)
    assert (basis[0] @ rest[0]).abs().max() < 1e-15
    torch.testing.assert_close(rest[0] + along[0] @ basis[0], block[0], rtol=1e-14, atol=1e-15)


class Broken(Counting):
    def _product(self, block):
        return super()._product(block) * float("nan")


def test_nan_products_are_one_clear_line():
    with pytest.raises(ValueError, match="the operator gave NaN or infinity; check the loss and the weights"):
        lanczos(Broken(torch.eye(4)), normal(4, 1, dtype=torch.float32), 2)
