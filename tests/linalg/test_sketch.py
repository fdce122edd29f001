import pytest
import torch
from cases import Counting, normal, seeded, symmetric

from landscape.linalg.probes import gaussian
from landscape.linalg.sketch import sketch

matrix = symmetric(torch.linspace(-3, 5, 40))


def test_the_basis_spans_the_images():
    A = Counting(matrix)
    found = sketch(A, gaussian(A, 6, seeded()))
    Q = found.basis
    assert (Q.T @ Q - torch.eye(6)).abs().max() < 1e-13
    torch.testing.assert_close(Q @ (Q.T @ found.images), matrix @ found.probes, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.basis_images, matrix @ Q, rtol=1e-12, atol=1e-13)
    assert found.matvecs == A.count == 12


def test_leaving_a_column_out_is_sketching_without_it():
    A = Counting(matrix)
    probes = gaussian(A, 6, seeded())
    found = sketch(A, probes)
    for i in range(6):
        others = sketch(A, probes[:, [j for j in range(6) if j != i]]).basis
        s = found.left_out[:, i : i + 1]
        smaller = found.basis @ (torch.eye(6) - s @ s.T) @ found.basis.T
        torch.testing.assert_close(smaller, others @ others.T, rtol=0, atol=1e-10)


@pytest.mark.parametrize("rank", [1, 3])
def test_in_a_space_that_the_others_span_nothing_is_left_out(rank):
    B = normal(40, rank)
    A = Counting(B @ B.T)
    found = sketch(A, gaussian(A, 6, seeded()))
    assert found.basis.shape == (40, rank)
    assert found.left_out.abs().max() == 0
    assert found.matvecs == A.count == 6 + rank


def test_the_zero_operator():
    A = Counting(torch.zeros(5, 5, dtype=torch.float64))
    found = sketch(A, gaussian(A, 2, seeded()))
    assert found.left_out.isfinite().all()
    assert found.basis_images.abs().max() == 0


def test_a_sketch_that_grows_is_the_sketch_of_all_test_vectors():
    A = Counting(matrix)
    probes = gaussian(A, 7, seeded())
    grown = sketch(A, probes[:, 4:], sketch(A, probes[:, :4]))
    assert grown.matvecs == A.count == 14
    whole = sketch(A, probes)
    assert torch.equal(grown.probes, probes)
    assert (grown.basis.T @ grown.basis - torch.eye(7)).abs().max() < 1e-13
    torch.testing.assert_close(grown.basis_images, matrix @ grown.basis, rtol=1e-12, atol=1e-13)
    for name in (grown, whole):
        assert name.left_out.norm(dim=0).sub(1).abs().max() < 1e-12
    own, other = (each.basis @ each.left_out for each in (grown, whole))
    torch.testing.assert_close(own * (own * other).sum(0).sign(), other, rtol=0, atol=1e-9)


def test_a_sketch_of_low_rank_does_not_grow():
    B = normal(40, 3)
    A = Counting(B @ B.T)
    probes = gaussian(A, 8, seeded())
    found = sketch(A, probes[:, 5:], sketch(A, probes[:, :5]))
    assert found.basis.shape == (40, 3)
    assert found.matvecs == A.count == 11
    assert found.left_out.abs().max() == 0
