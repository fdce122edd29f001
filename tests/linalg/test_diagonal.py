import pytest
import torch
from cases import Counting, make, seeded, symmetric

from landscape.curvature import hessian
from landscape.linalg import diagonal
from landscape.linalg.operator import MatrixOperator
from landscape.linalg.probes import rademacher

SEEDS = 300
decaying = symmetric(torch.logspace(2, -4, 60))


@pytest.mark.parametrize("matrix", [decaying, symmetric(torch.linspace(-2, 5, 60))], ids=["decaying", "indefinite"])
def test_estimates_average_to_the_diagonal(matrix):
    found = torch.stack([diagonal(MatrixOperator(matrix), matvecs=12, generator=seeded(i)).value for i in range(SEEDS)])
    error = (found.mean(0) - matrix.diagonal()).abs()
    assert (error <= 4 * found.std(0) / SEEDS**0.5).all()
    sums = found.sum(1)
    assert abs(sums.mean() - matrix.trace()) <= 4 * sums.std() / SEEDS**0.5


def test_stated_errors_have_the_size_of_the_errors():
    matrix = symmetric(torch.linspace(-2, 5, 60))
    found = [diagonal(MatrixOperator(matrix), matvecs=20, generator=seeded(i)) for i in range(100)]
    errors = torch.stack([each.value - matrix.diagonal() for each in found]).square().mean().sqrt()
    stated = torch.stack([each.stderr for each in found]).square().mean().sqrt()
    assert 0.5 < stated / errors < 2


@pytest.mark.parametrize("rank", [0, 1, 5, 9])
def test_low_rank_is_exact(rank):
    spectrum = torch.zeros(60)
    spectrum[:rank] = torch.arange(1.0, rank + 1)
    matrix = symmetric(spectrum)
    found = diagonal(MatrixOperator(matrix), matvecs=max(4, 2 * (rank + 1)))
    torch.testing.assert_close(found.value, matrix.diagonal(), rtol=0, atol=1e-13 * max(rank, 1))


def test_far_more_accurate_than_hutchinson_where_the_spectrum_decays():
    matrix = symmetric(100 * 0.6 ** torch.arange(60))
    A = MatrixOperator(matrix)
    ours, plain = [], []
    for seed in range(20):
        ours.append(diagonal(A, matvecs=40, generator=seeded(seed)).value)
        signs = rademacher(A, 40, seeded(seed))
        plain.append((signs * (A @ signs)).mean(1))
    error, hutchinson = ((torch.stack(x) - matrix.diagonal()).norm() for x in (ours, plain))
    assert error < hutchinson / 100


@pytest.mark.parametrize("matvecs", [4, 5, 20, 59, 60, 70])
@pytest.mark.parametrize("spectrum", [torch.linspace(1, 2, 60), torch.cat([torch.ones(1), torch.zeros(59)])])
def test_products_are_counted_and_stay_in_the_budget(matvecs, spectrum):
    A = Counting(symmetric(spectrum))
    found = diagonal(A, matvecs=matvecs)
    assert found.matvecs == A.count <= matvecs
    assert found.value.shape == found.stderr.shape == (60,)
    if matvecs >= 60:
        assert torch.equal(found.value, A.inner.matrix.diagonal())
        assert found.stderr.abs().max() == 0


def test_diagonal_of_a_network():
    H = hessian(make("mlp").problem())
    exact = H.dense().diagonal()
    found = diagonal(H, matvecs=40)
    assert ((found.value - exact).abs() <= 5 * found.stderr + 1e-10).double().mean() > 0.9


def test_too_few_products_are_refused():
    with pytest.raises(ValueError, match="matvecs must be an integer at least 4, got 3"):
        diagonal(MatrixOperator(decaying), matvecs=3)
