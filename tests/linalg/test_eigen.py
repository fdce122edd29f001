import pytest
import torch
from cases import Counting, make, normal, seeded, symmetric
from spectra import DEGENERATE, SPECTRA, check, wanted

from landscape.curvature import hessian
from landscape.linalg import top_eigenpairs
from landscape.linalg.operator import MatrixOperator


@pytest.mark.parametrize("which", ["LM", "LA", "SA"])
@pytest.mark.parametrize("name", SPECTRA)
def test_eigenpairs_of_prescribed_spectra(name, which):
    A = MatrixOperator(symmetric(SPECTRA[name]))
    expected = wanted(SPECTRA[name], which, 10)
    pairs = top_eigenpairs(A, 10, which=which)
    check(A, pairs, expected)
    if (name, which) != ("decaying", "SA"):  # there they lie closer together than a thousand products tell apart
        assert pairs.converged.all()
        assert (pairs.values - expected).abs().max() <= 1e-6 * SPECTRA[name].abs().max()


@pytest.mark.parametrize("name", ["mlp", "conv_bn", "attention"])
def test_top_ten_of_a_network(name):
    H = hessian(make(name).problem())
    A = MatrixOperator((H.dense() + H.dense().T) / 2)
    pairs = top_eigenpairs(H, k=10)
    expected = wanted(torch.linalg.eigvalsh(A.matrix), "LM", 10)
    check(A, pairs, expected)
    assert ((pairs.values - expected).abs() <= 1e-6 * expected[0].abs()).all()
    assert pairs.converged.all()


def test_a_dominant_negative_eigenvalue_comes_first_by_magnitude_with_its_sign():
    A = MatrixOperator(symmetric(torch.cat([torch.tensor([-9.0]), torch.linspace(-1, 4, 99)])))
    torch.testing.assert_close(top_eigenpairs(A, 1).values, torch.tensor([-9.0]).double(), rtol=1e-6, atol=0)
    torch.testing.assert_close(top_eigenpairs(A, 1, which="LA").values, torch.tensor([4.0]).double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("block_size", [None, 2, 3, 8])
@pytest.mark.parametrize("k", [1, 2, 7, 30, 100])
@pytest.mark.parametrize("name", DEGENERATE)
def test_multiple_eigenvalues_come_as_often_as_they_are(name, k, block_size, dtype):
    A = Counting(symmetric(DEGENERATE[name]).to(dtype))
    pairs = top_eigenpairs(A, k, block_size=block_size)
    expected = wanted(DEGENERATE[name], "LM", k)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(pairs.values.double(), expected, rtol=0, atol=5 * tolerance)
    most = min(100, 4 * k + 40 + 8 * block_size) if block_size else 4 * k + 30
    assert A.count == pairs.matvecs <= most
    if dtype == torch.float64:
        check(A, pairs, expected)
        assert pairs.converged.all()


@pytest.mark.parametrize("size", [1, 2, 30])
@pytest.mark.parametrize("which", ["LM", "LA", "SA"])
def test_all_pairs(size, which):
    values = torch.arange(1.0, size + 1) * (-1.1) ** torch.arange(size)
    A = MatrixOperator(symmetric(values))
    pairs = top_eigenpairs(A, size, which=which)
    check(A, pairs, wanted(values, which, size))
    assert pairs.converged.all()


@pytest.mark.parametrize("block_size", [None, 3])
@pytest.mark.parametrize("budget", [1, 2, 3, 5, 7, 12])
def test_a_spent_budget_still_gives_k_pairs(budget, block_size):
    A = Counting(symmetric(SPECTRA["no gap"]))
    pairs = top_eigenpairs(A, 5, max_matvecs=budget, block_size=block_size)
    assert A.count == pairs.matvecs == budget
    assert not pairs.converged.any()
    assert pairs.values.isfinite().all()
    assert pairs.residuals[budget:].isinf().all()
    V = pairs.vectors
    assert (V.T @ V - torch.eye(5)).abs().max() < 1e-12
    residuals = (A.matrix @ V - V * pairs.values).norm(dim=0)
    assert (residuals <= pairs.residuals + 1e-13).all()


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-8])
def test_converged_means_what_it_says(tol):
    A = MatrixOperator(symmetric(SPECTRA["no gap"]))
    pairs = top_eigenpairs(A, 4, tol=tol)
    assert (pairs.residuals <= tol * pairs.values.abs()).all()
    assert pairs.converged.all()
    partly = top_eigenpairs(A, 4, tol=tol, max_matvecs=30)
    assert torch.equal(partly.converged, partly.residuals <= tol * partly.values.abs())


def test_the_loss_scale_does_not_matter():
    values = SPECTRA["network"]
    one, small = (top_eigenpairs(MatrixOperator(symmetric(values) * c), 5) for c in (1.0, 1e-6))
    torch.testing.assert_close(small.values * 1e6, one.values, rtol=1e-9, atol=0)
    assert small.matvecs == one.matvecs


@pytest.mark.parametrize("noise", [0.0, 1e-9, 1e-3])
@pytest.mark.parametrize("position", [0, 50, 97, 98, 99])
def test_a_start_that_is_another_eigenvector_does_not_mislead(position, noise):
    matrix = symmetric(torch.cat([torch.linspace(-1, 1, 95), torch.arange(2.0, 7.0)]))
    start = torch.linalg.eigh(matrix)[1][:, position] + noise * normal(100, seed=1)
    pairs = top_eigenpairs(MatrixOperator(matrix), 1, start=start)
    torch.testing.assert_close(pairs.values, torch.tensor([6.0]).double(), rtol=1e-6, atol=0)


def test_a_good_start_saves_products():
    A = MatrixOperator(symmetric(SPECTRA["no gap"]))
    cold = top_eigenpairs(A, 1, tol=1e-8)
    warm = top_eigenpairs(A, 1, tol=1e-8, start=cold.vectors[:, 0])
    assert warm.matvecs < cold.matvecs / 2
    torch.testing.assert_close(warm.values, cold.values, rtol=1e-9, atol=0)


def test_a_seed_gives_the_same_pairs():
    A = MatrixOperator(symmetric(SPECTRA["network"]))
    first, again, other = (top_eigenpairs(A, 3, generator=seeded(i)) for i in (1, 1, 2))
    assert torch.equal(first.vectors, again.vectors)
    assert not torch.equal(first.vectors, other.vectors)


A4 = MatrixOperator(torch.eye(4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, r"k must be an integer in \[1, 4\], got 0"),
        ({"k": 5}, r"k must be an integer in \[1, 4\], got 5"),
        ({"k": 2, "tol": 0.0}, "tol must be positive and finite, got 0.0"),
        ({"k": 2, "tol": -1e-3}, "tol must be positive and finite, got -0.001"),
        ({"k": 2, "which": "SM"}, "which must be one of 'LM' | 'LA' | 'SA', got 'SM'"),
        ({"k": 2, "max_matvecs": 0}, "max_matvecs must be an integer at least 1, got 0"),
        ({"k": 2, "start": torch.ones(3)}, r"start must be \(4,\) float32 on cpu, got \(3,\) float32"),
        ({"k": 2, "start": torch.ones(4).double()}, r"start must be \(4,\) float32 on cpu, got \(4,\) float64"),
        ({"k": 2, "start": torch.zeros(4)}, "start must be finite and not zero"),
        ({"k": 2, "start": torch.full((4,), float("nan"))}, "start must be finite and not zero"),
    ],
)
def test_arguments_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        top_eigenpairs(A4, **settings)


class Broken(Counting):
    def _product(self, block):
        return super()._product(block) * (float("inf") if self.count > 2 else 1.0)


def test_infinite_products_are_one_clear_line():
    with pytest.raises(ValueError, match="the operator gave NaN or infinity"):
        top_eigenpairs(Broken(symmetric(torch.arange(1.0, 41.0))), 5)


@pytest.mark.parametrize("which", ["LM", "LA", "SA"])
@pytest.mark.parametrize(("size", "k"), [(60, 3), (200, 10), (300, 3), (600, 20)])
def test_as_many_products_as_rows_are_enough(size, k, which):
    a = normal(size, size, seed=2)
    matrix = a.T @ a / size - 0.5 * torch.eye(size).double()
    found = top_eigenpairs(MatrixOperator(matrix), k, which=which, tol=1e-11, max_matvecs=None if k > 3 else size)
    assert found.matvecs <= size
    assert found.converged.all()
    torch.testing.assert_close(found.values, wanted(torch.linalg.eigvalsh(matrix), which, k), rtol=1e-9, atol=1e-10)
