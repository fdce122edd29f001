import pytest
import torch
from cases import Counting, make, seeded, symmetric

from landscape.curvature import hessian
from landscape.linalg import frobenius_norm
from landscape.linalg.operator import MatrixOperator

SPECTRA = {
    "flat": torch.linspace(0.5, 1.5, 100),
    "slow": torch.arange(1.0, 101) ** -0.5,
    "outliers": torch.cat([torch.linspace(-0.2, 0.2, 93), torch.tensor([10.0, 8, 6, 4, 2, -2, -1])]),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_intervals_hold_the_norm_as_often_as_they_say(name):
    A, exact = MatrixOperator(symmetric(SPECTRA[name])), SPECTRA[name].double().norm()
    found = [frobenius_norm(A, matvecs=24, generator=seeded(i)) for i in range(200)]
    held = sum(bool((each.value - exact).abs() <= 1.96 * each.stderr) for each in found) / 200
    assert 0.90 <= held <= 0.99


@pytest.mark.parametrize("matvecs", [8, 60, 70])
def test_low_rank_and_enough_products_are_exact(matvecs):
    spectrum = torch.zeros(60)
    spectrum[:3] = torch.tensor([3.0, -4.0, 12.0])
    A = Counting(symmetric(spectrum))
    found = frobenius_norm(A, matvecs=matvecs)
    assert found.matvecs == A.count <= matvecs
    torch.testing.assert_close(found.value, torch.tensor(13.0).double(), rtol=1e-11, atol=0)
    assert found.stderr < 1e-10


def test_the_norm_of_a_network_and_of_nothing():
    H = hessian(make("mlp").problem())
    found = frobenius_norm(H, matvecs=40)
    assert abs(found.value - H.dense().norm()) <= 4 * found.stderr + 1e-10
    zero = frobenius_norm(MatrixOperator(torch.zeros(30, 30)), matvecs=8)
    assert (zero.value, zero.stderr) == (0, 0)


def test_too_few_products_are_refused():
    with pytest.raises(ValueError, match="matvecs must be an integer at least 4, got 3"):
        frobenius_norm(MatrixOperator(torch.eye(9)), matvecs=3)
