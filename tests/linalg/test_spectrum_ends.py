import pytest
import torch
from cases import Counting, symmetric

from landscape.linalg import spectrum_ends, top_eigenpairs
from landscape.linalg.operator import MatrixOperator

SPECTRA = {
    "both signs": torch.cat([torch.linspace(-1, 1, 90), torch.tensor([-4.0, 9.0])]),
    "negative prevails": torch.cat([torch.linspace(-1, 1, 90), torch.tensor([-9.0, 4.0])]),
    "positive": torch.linspace(0.5, 3, 60),
    "negative": -torch.linspace(0.5, 3, 60),
    "opposite": torch.tensor([-2.0, 0.0, 0.5, 2.0]),
    "identity": torch.ones(5),
    "zero": torch.zeros(5),
    "one": torch.tensor([3.0]),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_the_ends_are_found_and_every_value_is_within_its_residual(name):
    spectrum = SPECTRA[name].double()
    A = MatrixOperator(symmetric(spectrum))
    pairs = spectrum_ends(A, tol=1e-6)
    ends = torch.stack([spectrum.min(), spectrum.max()])
    scale = float(spectrum.abs().max())
    assert pairs.converged.all()
    assert ((pairs.values - ends).abs() <= pairs.residuals + 1e-13 * scale).all()
    assert (pairs.residuals <= 1e-6 * scale + 1e-13).all()
    images = A.matrix @ pairs.vectors - pairs.vectors * pairs.values
    assert (images.norm(dim=0) <= pairs.residuals + 1e-13 * scale).all()


def test_a_smallest_eigenvalue_of_almost_zero_takes_no_more_products_than_the_width_asks_for():
    spectrum = torch.cat([torch.linspace(-1e-6, 1e-2, 290), torch.logspace(0.5, 1.5, 10)]).double()
    ends, smallest = Counting(symmetric(spectrum)), Counting(symmetric(spectrum))
    pairs = spectrum_ends(ends, tol=1e-3)
    top_eigenpairs(smallest, 1, which="SA", tol=1e-3)
    assert pairs.matvecs == ends.count < smallest.count / 2
    assert abs(float(pairs.values[0] - spectrum.min())) <= 1e-3 * float(spectrum.max())


@pytest.mark.parametrize("seed", range(8))
def test_a_negative_eigenvalue_does_not_hide_behind_the_many_near_zero(seed):
    bulk = torch.linspace(-0.5, 0.5, 1990).double()
    positive = torch.tensor([617.0, 300, 200, 120, 80, 60, 40, 20]).double()
    spectrum = torch.cat([torch.tensor([-50.6, -37.7]).double(), bulk, positive])
    A = MatrixOperator(torch.diag(spectrum))
    pairs = spectrum_ends(A, tol=1e-2, generator=torch.Generator().manual_seed(seed))
    assert abs(float(pairs.values[0]) + 50.6) <= 1e-2 * 617
