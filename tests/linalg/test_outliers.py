import pytest
import torch
from cases import Counting, normal, seeded, symmetric

from landscape.linalg import spectral_density
from landscape.linalg.operator import MatrixOperator
from landscape.linalg.outliers import detect_outliers

SIZE = 200


def semicircle(size):
    """Eigenvalues of a random symmetric matrix: the semicircle of radius 1, with an edge as ragged as it comes."""
    g = normal(size, size, seed=7)
    return torch.linalg.eigvalsh((g + g.T) / (8 * size) ** 0.5)


def uniform(size):
    return torch.linspace(-1, 1, size, dtype=torch.float64)


def square(size):
    """Square Marchenko-Pastur, half of it, on [0, 2]: all piled up at 0 and thin at the upper edge."""
    g = normal(size, size, seed=8)
    return torch.linalg.eigvalsh(g @ g.T / (2 * size))


BULKS = {bulk.__name__: bulk for bulk in (semicircle, uniform, square)}
PLANTED = {
    "none": [],
    "one": [4.0],
    "one below": [-3.5],
    "both sides": [12.0, 8.0, 5.0, -4.0, 3.5],
    "below": [-5.0, -4.0, -3.0],
    "ten close to each other": [4 + 0.05 * i for i in range(10, 0, -1)],
    "twenty": [100 * 0.85**i for i in range(20)],
}


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("bulk", BULKS)
def test_planted_outliers_are_found_and_none_besides(bulk, name):
    planted = torch.tensor(PLANTED[name], dtype=torch.float64)
    matrix = symmetric(torch.cat([BULKS[bulk](SIZE - len(planted)), planted]))
    A = Counting(matrix)
    values, V, spent = detect_outliers(A, 64, seeded())
    assert spent == A.count == 64
    assert values.shape == planted.shape
    torch.testing.assert_close(values, planted, rtol=1e-7, atol=0)
    assert V.shape == (SIZE, len(planted))
    assert ((matrix @ V - V * values).norm(dim=0) <= 1e-4 * values.abs()).all()
    torch.testing.assert_close(V.T @ V, torch.eye(len(planted)).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("bulk", BULKS)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("steps", [20, 64, 100])
def test_however_it_starts_the_number_is_the_same(bulk, seed, steps):
    planted = torch.tensor([6.0, 4.0, -4.0], dtype=torch.float64)
    for k in (0, 3):
        A = MatrixOperator(symmetric(torch.cat([BULKS[bulk](SIZE - k), planted[:k]]), seed=seed))
        assert len(detect_outliers(A, steps, seeded(seed))[0]) == k


@pytest.mark.parametrize(
    ("spectrum", "least", "most"),
    [
        (torch.zeros(50), 0, 0),
        (torch.ones(50), 0, 0),
        (torch.ones(1), 0, 0),
        (torch.tensor([1.0, 4.0]).repeat(25), 0, 0),  # 4 stands apart, but is half of the spectrum
        (torch.cat([torch.zeros(60), torch.tensor([9.0, 6.0, -4.0])]), 3, 3),
        (0.5 ** torch.arange(60.0), 10, 32),
        (0.9 ** torch.arange(200.0), 0, 32),
        (1 / torch.arange(1.0, 200.0), 3, 32),
    ],
    ids=["zero", "identity", "one entry", "two values", "rank three", "halves", "tenths", "harmonic"],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_other_spectra_stay_bounded_and_sane(spectrum, least, most, dtype):
    matrix = symmetric(spectrum).to(dtype)
    values, V, _ = detect_outliers(MatrixOperator(matrix), 64, seeded())
    assert least <= len(values) <= most
    largest = spectrum.double().abs().sort(descending=True).values[: len(values)]
    torch.testing.assert_close(values.abs(), largest, rtol=1e-4, atol=200 * torch.finfo(dtype).eps)  # rounding
    assert (V.T @ V - torch.eye(len(values))).abs().max() < 1e-4 if len(values) else V.shape == (len(matrix), 0)
    density = spectral_density(MatrixOperator(matrix), probes=2, steps=8, outliers="auto", check=0)
    assert density.nodes.isfinite().all()
    torch.testing.assert_close(density.weights.sum(1), torch.ones(2).double(), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("scale", "shift"), [(1e-6, 0.0), (1e6, 0.0), (-1.0, 0.0), (1.0, 5.0), (2.0, -30.0)])
def test_scale_and_shift_change_nothing(scale, shift):
    spectrum = torch.cat([uniform(SIZE - 4), torch.tensor([6.0, 4.0, 3.0, -3.0]).double()])
    matrix = scale * symmetric(spectrum) + shift * torch.eye(SIZE)
    found = detect_outliers(MatrixOperator(matrix), 64, seeded())[0]
    expected = scale * spectrum[-4:] + shift
    torch.testing.assert_close(found.sort().values, expected.sort().values, rtol=1e-6, atol=1e-6 * abs(scale))


@pytest.mark.parametrize("steps", range(4, 13))
def test_what_has_not_converged_is_left_in(steps):
    matrix = 1e-6 * symmetric(torch.cat([uniform(SIZE - 2), torch.tensor([6.0, 4.0]).double()]))
    values, V, _ = detect_outliers(MatrixOperator(matrix), steps, seeded())
    assert ((matrix @ V - V * values).norm(dim=0) <= 1e-4 * values.abs()).all()
    assert len(values) == (2 if steps == 12 else len(values)) <= steps // 2
