import pytest
import torch
from cases import Counting, seeded, symmetric
from spectra import SPECTRA, TRIPLE, wanted

from landscape.linalg import top_eigenpairs
from landscape.linalg.basis import Basis
from landscape.linalg.krylov import Krylov
from landscape.linalg.operator import MatrixOperator


def honest(A, pairs, rounding):
    """Residuals and orthonormality against the dense matrix, and every value within its residual of an eigenvalue."""
    M, V, values = A.matrix.double(), pairs.vectors.double(), pairs.values.double()
    bounds = pairs.residuals.double() + rounding
    assert ((M @ V - V * values).norm(dim=0) <= bounds).all()
    assert ((values[:, None] - torch.linalg.eigvalsh(M)).abs().amin(1) <= bounds).all()
    assert (V.T @ V - torch.eye(V.shape[1])).abs().max() < 20 * torch.finfo(A.dtype).eps


@pytest.mark.parametrize("basis_size", [None, 14])
@pytest.mark.parametrize("basis_dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("which", ["LM", "SA"])
@pytest.mark.parametrize("name", ["network", "no gap", "tiny", "rank three"])
def test_a_rounded_basis_keeps_residuals_honest(name, which, basis_dtype, basis_size):
    A = MatrixOperator(symmetric(SPECTRA[name]))
    pairs = top_eigenpairs(
        A, 5, which=which, basis_dtype=basis_dtype, basis_size=basis_size, max_matvecs=150, block_size=2
    )
    honest(A, pairs, 1e-13 * float(A.matrix.norm()))


def test_a_float32_basis_is_enough_for_a_float64_operator():
    A = MatrixOperator(symmetric(SPECTRA["network"]))
    pairs = top_eigenpairs(A, 5, basis_dtype=torch.float32)
    assert pairs.vectors.dtype == torch.float64
    assert pairs.converged.all()
    torch.testing.assert_close(pairs.values, wanted(SPECTRA["network"], "LM", 5), rtol=1e-6, atol=0)


def test_what_rounding_costs_is_said():
    A = MatrixOperator(symmetric(SPECTRA["network"]))
    pairs = top_eigenpairs(A, 5, basis_dtype=torch.bfloat16)
    assert pairs.matvecs < 300  # more products do not help, and it stops
    assert not pairs.converged.all()
    expected = wanted(SPECTRA["network"], "LM", 5)
    assert ((pairs.values - expected).abs() <= pairs.residuals).all()
    assert (pairs.residuals < 0.1 * expected[0]).all()


def test_a_basis_elsewhere_gives_the_same_pairs():
    A = MatrixOperator(symmetric(SPECTRA["network"]))
    here, there = (top_eigenpairs(A, 5, basis_device=device) for device in (None, "cpu"))
    assert torch.equal(here.vectors, there.vectors)


def test_rows_of_a_lower_precision_are_widened_piece_by_piece():
    A = MatrixOperator(symmetric(SPECTRA["network"]))
    basis, block = Basis(A, 30, None, torch.bfloat16), torch.randn(30, 300, generator=seeded()).double()
    basis.store(0, block)
    rows = basis.rows.double()
    torch.testing.assert_close(basis.errors, (rows - block).norm(dim=1))
    torch.testing.assert_close(basis.components(block, 3, 25), block @ rows[3:25].T)
    torch.testing.assert_close(basis.combine(block[:, :30]), block[:, :30] @ rows)
    turned = torch.linalg.qr(block[:, :30])[0][:, :7]
    errors = basis.rotate(turned)
    torch.testing.assert_close(errors, (basis.rows[:7].double() - turned.T @ rows).norm(dim=1))


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("block_size", [1, 3])
def test_the_krylov_relation_holds_through_restarts(block_size, dtype):
    """A V = V H + R with the waiting rows in R, up to what `lost` and the rounding of the rows explain."""
    A = MatrixOperator(symmetric(TRIPLE))
    krylov = Krylov(A, 20, block_size, seeded(), dtype=dtype)
    krylov.begin_random(block_size)
    for _ in range(4):
        while not krylov.full:
            krylov.absorb(krylov.products(block_size))
        m, end = krylov.count, krylov.count + krylov.pending
        V = krylov.basis.rows[:end].double()
        outside = (A.matrix @ V[:m].T - V.T @ krylov.h[:end, :m]).norm(dim=0)
        assert (outside <= krylov._left_out(torch.eye(m, dtype=torch.float64)) + 1e-12).all()
        eps = torch.finfo(krylov.basis.rows.dtype).eps
        assert (V @ V.T - torch.eye(end)).abs().max() < 50 * eps
        krylov.restart(krylov.ritz("LM"), 8)


@pytest.mark.parametrize("basis_size", [6, 8, 12, 20])
def test_converged_pairs_are_never_lost_in_a_small_basis(basis_size):
    values = torch.cat([torch.linspace(-1, 1, 195), torch.tensor([2.0, 3.0, 4.0, 6.0, 9.0])])
    A = Counting(symmetric(values))
    seen = []
    pairs = top_eigenpairs(A, 5, basis_size=basis_size, progress=seen.append)
    honest(A, pairs, 1e-12)
    assert pairs.converged.all()
    torch.testing.assert_close(pairs.values, values.double().flip(0)[:5], rtol=1e-6, atol=0)
    assert A.count == pairs.matvecs
    converged = [step.converged for step in seen if step.residual < float("inf")]
    best = 0
    for count in converged:
        assert count >= best - 1  # a newcomer moves one down for a while, at most
        best = max(best, count)


def test_progress_tells_what_the_result_says():
    A = MatrixOperator(symmetric(SPECTRA["no gap"]))
    seen = []
    pairs = top_eigenpairs(A, 4, progress=seen.append)
    last = seen[-1]
    assert (last.matvecs, last.converged, last.residual) == (pairs.matvecs, 4, float(pairs.residuals.max()))
    assert [s.matvecs for s in seen] == sorted({s.matvecs for s in seen})
    assert seen[0].converged < 4
