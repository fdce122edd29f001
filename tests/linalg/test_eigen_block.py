import pytest
import torch
from cases import normal, seeded, symmetric
from spectra import SPECTRA, TRIPLE, check, wanted

from landscape.linalg import top_eigenpairs
from landscape.linalg.operator import CurvatureOperator, MatrixOperator


class Diagonal(CurvatureOperator):
    """diag(values), with the columns of each pass that it served; it likes `columns` of them."""

    columns = 1

    def __init__(self, values, columns=1):
        super().__init__(len(values), values.dtype, values.device)
        self.values, self.widths, self.columns = values, [], columns

    def _product(self, block):
        self.widths.append(block.shape[1])
        return self.values[:, None] * block


@pytest.mark.parametrize("block_size", [2, 3, 5])
@pytest.mark.parametrize("which", ["LM", "LA", "SA"])
@pytest.mark.parametrize("name", SPECTRA)
def test_blocks_give_the_same_pairs(name, which, block_size):
    A = MatrixOperator(symmetric(SPECTRA[name]))
    k = 3 if (name, which) == ("decaying", "SA") else 10
    pairs = top_eigenpairs(A, k, which=which, block_size=block_size)
    check(A, pairs, wanted(SPECTRA[name], which, k))
    assert pairs.converged.all() or (name, which) == ("decaying", "SA")


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("block_size", "copies"), [(1, 1), (2, 2), (3, 3), (4, 3)])
def test_eigenvalues_come_as_often_as_they_are_up_to_the_block(block_size, copies, sign):
    A = MatrixOperator(symmetric(sign * TRIPLE))
    pairs = top_eigenpairs(A, 3, block_size=block_size, tol=1e-6)
    found = (pairs.values - sign * 5).abs() < 1e-9
    assert int(found.sum()) == copies
    assert pairs.converged.all()
    if copies == 3:
        check(A, pairs, wanted(sign * TRIPLE, "LM", 3))


@pytest.mark.parametrize("seed", range(5))
def test_a_block_of_two_tells_close_pairs_apart(seed):
    outliers = torch.logspace(0.2, 1.3, 5)
    values = torch.cat([outliers, outliers * (1 - 1e-5), torch.linspace(-1, 1, 390)]).double()
    pairs = top_eigenpairs(Diagonal(values), 10, block_size=2, generator=seeded(seed))
    assert ((pairs.values - wanted(values, "LM", 10)).abs() <= pairs.residuals).all()


def test_a_block_shares_passes_and_every_product_counts():
    values = torch.cat([torch.logspace(0, 1.3, 10), torch.linspace(-0.3, 0.9, 990)]).double()
    one, four = Diagonal(values), Diagonal(values)
    single, block = top_eigenpairs(one, 10), top_eigenpairs(four, 10, block_size=4)
    assert len(one.widths) == sum(one.widths) == single.matvecs
    assert sum(four.widths) == block.matvecs
    assert len(four.widths) <= -(-block.matvecs // 4) + 1
    assert len(four.widths) < len(one.widths)
    torch.testing.assert_close(single.values, wanted(values, "LM", 10), rtol=1e-6, atol=0)
    torch.testing.assert_close(block.values, wanted(values, "LM", 10), rtol=1e-6, atol=0)


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_the_loss_scale_does_not_matter_to_blocks(scale):
    values = SPECTRA["network"]
    one, small = (top_eigenpairs(MatrixOperator(symmetric(values) * c), 5, block_size=3) for c in (1.0, scale))
    torch.testing.assert_close(small.values / scale, one.values, rtol=1e-9, atol=0)
    assert small.matvecs == one.matvecs


@pytest.mark.parametrize("block_size", [1, 3])
@pytest.mark.parametrize("columns", [2, 5])
def test_several_starts(columns, block_size):
    values = TRIPLE + 0.01 * torch.arange(200)
    A = MatrixOperator(symmetric(values))
    expected = wanted(values, "LM", 5)
    exact = torch.linalg.eigh(A.matrix)[1].flip(1)[:, :columns]
    for start in (
        exact,
        exact + 1e-3 * normal(200, columns),
        exact[:, :1].expand(-1, columns),
        torch.cat([exact, -exact], 1),
        normal(200, columns),
    ):
        pairs = top_eigenpairs(A, 5, start=start.contiguous(), block_size=block_size)
        check(A, pairs, expected)
        assert pairs.converged.all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"block_size": 0}, r"block_size must be an integer in \[1, 4\], got 0"),
        ({"block_size": 5}, r"block_size must be an integer in \[1, 4\], got 5"),
        ({"basis_size": 2}, r"basis_size must be an integer at least 3, got 2"),
        ({"start": torch.ones(4, 5)}, r"start must be \(4,\) float32 on cpu, got \(4, 5\) float32"),
        ({"start": torch.eye(4)[:, :2] * torch.tensor([1.0, 0.0])}, "start must be finite and not zero"),
        ({"basis_dtype": torch.int32}, "basis_dtype must be floating, got torch.int32"),
    ],
)
def test_block_arguments_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        top_eigenpairs(MatrixOperator(torch.eye(4)), 2, **settings)


OUTLIERS = torch.tensor([50.0, 30, 20, 12, 8, 6, 4, 3, 2.5, 2])
TRAINED = torch.cat([OUTLIERS, torch.logspace(-3, 0, 3000)])


@pytest.mark.parametrize(("k", "size", "width"), [(10, 3010, 4), (8, 16, 4), (7, 3010, 1), (1, 3010, 1), (10, 15, 1)])
def test_the_block_follows_what_the_operator_likes(k, size, width):
    A = Diagonal(TRAINED[:size], columns=8)
    top_eigenpairs(A, k)
    assert A.widths[0] == width
    assert max(A.widths) == width
    plain = Diagonal(TRAINED[:size])
    top_eigenpairs(plain, k)
    assert max(plain.widths) == 1


@pytest.mark.parametrize(("tol", "most"), [(1e-3, 36), (1e-4, 40)])
def test_the_last_blocks_multiply_only_what_open_pairs_need(tol, most):
    spent = []
    for seed in range(6):
        A = Diagonal(TRAINED, columns=8)
        pairs = top_eigenpairs(A, 10, tol=tol, generator=seeded(seed))
        assert pairs.converged.all()
        assert ((pairs.values - OUTLIERS).abs() <= pairs.residuals).all()
        true = TRAINED[:, None] * pairs.vectors - pairs.vectors * pairs.values
        assert (true.norm(dim=0) <= pairs.residuals).all()
        assert pairs.matvecs == sum(A.widths)
        spent.append(pairs.matvecs)
        full = top_eigenpairs(Diagonal(TRAINED), 10, tol=tol, block_size=4, generator=seeded(seed))
        assert pairs.matvecs <= full.matvecs
        assert A.widths[-1] < 4 or pairs.matvecs == full.matvecs
    assert sum(spent) / len(spent) <= most


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("basis_size", [21, 60])
@pytest.mark.parametrize("which", ["LM", "LA", "SA"])
@pytest.mark.parametrize("name", SPECTRA)
def test_narrowed_blocks_give_the_same_pairs(name, which, basis_size, dtype):
    values = SPECTRA[name]
    A = Diagonal(values, columns=8)
    k = 8
    pairs = top_eigenpairs(A, k, which=which, basis_size=basis_size, basis_dtype=dtype, tol=1e-3 if dtype else 1e-6)
    true = A.values[:, None] * pairs.vectors - pairs.vectors * pairs.values
    assert (true.norm(dim=0) <= pairs.residuals * 1.01 + 1e-9).all()
    chosen = pairs.converged
    distance = (pairs.values[chosen] - wanted(values, which, k)[chosen]).abs()
    assert (distance <= pairs.residuals[chosen] + 1e-9).all() or name == "decaying"
