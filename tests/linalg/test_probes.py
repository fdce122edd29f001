import pytest
import torch
from cases import seeded

from landscape.linalg.operator import MatrixOperator
from landscape.linalg.probes import gaussian, rademacher, sphere

A = MatrixOperator(torch.eye(5, dtype=torch.float64))
KINDS = [gaussian, rademacher, sphere]


@pytest.mark.parametrize("draw", KINDS)
def test_probes_are_isotropic(draw):
    block = draw(A, 40_000, seeded())
    products = block[:, None] * block[None]
    error = (products.mean(2) - torch.eye(5)).abs()
    assert (error <= 4 * products.std(2) / 200 + 1e-12).all()
    assert (block.mean(1).abs() <= 4 / 200).all()


def test_signs_and_lengths():
    assert set(rademacher(A, 100, seeded()).flatten().tolist()) == {-1.0, 1.0}
    torch.testing.assert_close(sphere(A, 7, seeded()).norm(dim=0), torch.full((7,), 5**0.5, dtype=torch.float64))


@pytest.mark.parametrize("draw", KINDS)
def test_a_seed_gives_the_same_probes_in_every_dtype(draw):
    single = draw(MatrixOperator(torch.eye(5)), 3, seeded(1))
    double = draw(A, 3, seeded(1))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=1e-6, atol=0)
    assert not torch.equal(draw(A, 3, seeded(2)), double)
