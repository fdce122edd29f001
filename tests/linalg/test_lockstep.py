import threading

import pytest
import torch
from cases import Counting, normal, seeded, symmetric

from landscape.linalg import spectral_density, top_eigenpairs, trace
from landscape.linalg.lockstep import lockstep
from landscape.linalg.operator import MatrixOperator

SPECTRA = [torch.arange(1.0, 31.0), torch.linspace(-2, 7, 12), torch.tensor([3.0])]
MATRICES = [symmetric(spectrum, seed=i) for i, spectrum in enumerate(SPECTRA)]
SIZES = [len(matrix) for matrix in MATRICES]


class Passes(Counting):
    """Also counts the products with blocks of vectors."""

    passes = 0

    def _product(self, block):
        self.passes += 1
        return super()._product(block)


def test_each_task_gets_what_it_gets_alone():
    tasks = [
        (0, lambda A: top_eigenpairs(A, 2, which="LA", generator=seeded(1)).values),
        (1, lambda A: top_eigenpairs(A, 3, which="SA", generator=seeded(2)).values),
        (0, lambda A: trace(A, matvecs=8, generator=seeded(3)).value),
        (1, lambda A: spectral_density(A, probes=3, steps=5, generator=seeded(4)).nodes),
        (2, lambda A: A.dense()),
        (1, lambda A: torch.ones(3)),  # no product at all
    ]
    found, _ = lockstep(MatrixOperator(torch.block_diag(*MATRICES)), SIZES, tasks)
    for (block, function), own in zip(tasks, found, strict=True):
        torch.testing.assert_close(own, function(MatrixOperator(MATRICES[block])), rtol=1e-10, atol=1e-12)


def test_passes_are_those_of_the_longest_task_and_not_their_sum():
    def repeated(count):
        def task(A):
            v = torch.ones(A.shape[0], dtype=A.dtype)
            for _ in range(count):
                v = A @ v
            return v

        return task

    whole = Passes(torch.block_diag(*MATRICES))
    found, passes = lockstep(whole, SIZES, [(0, repeated(3)), (1, repeated(7)), (2, repeated(2))])
    assert passes == whole.passes == 7
    assert float(found[2]) == pytest.approx(9)
    powers = torch.linalg.matrix_power(MATRICES[1], 7).sum(1)
    torch.testing.assert_close(found[1], powers, rtol=1e-10, atol=1e-8)


def test_the_numbers_do_not_depend_on_which_thread_comes_first():
    tasks = [(i % 2, lambda A, i=i: top_eigenpairs(A, 1, generator=seeded(i)).vectors) for i in range(6)]
    runs = [lockstep(MatrixOperator(torch.block_diag(*MATRICES)), SIZES, tasks)[0] for _ in range(3)]
    assert all(torch.equal(a, b) for run in runs[1:] for a, b in zip(runs[0], run, strict=True))


@pytest.mark.parametrize("place", [0, 1])
def test_a_failing_task_ends_all_and_leaves_no_thread(place):
    def endless(A):
        while True:
            A @ normal(A.shape[0])

    def failing(A):
        A @ normal(A.shape[0])
        raise KeyError("second call")

    tasks = [(i, failing if i == place else endless) for i in range(2)]
    before = threading.active_count()
    with pytest.raises(KeyError, match="second call"):
        lockstep(MatrixOperator(torch.block_diag(*MATRICES)), SIZES, tasks)
    assert threading.active_count() == before


def test_a_failing_operator_ends_all_and_leaves_no_thread():
    class Failing(Counting):
        def _product(self, block):
            raise ValueError("batch 0: the loss is nan")

    before = threading.active_count()
    with pytest.raises(ValueError, match="the loss is nan"):
        lockstep(Failing(torch.block_diag(*MATRICES)), SIZES, [(i, lambda A: A.dense()) for i in range(3)])
    assert threading.active_count() == before


def test_inside_inference_mode():
    with torch.inference_mode():
        (value,), _ = lockstep(
            MatrixOperator(torch.block_diag(*MATRICES)), SIZES, [(0, lambda A: top_eigenpairs(A, 1).values)]
        )
    torch.testing.assert_close(value, torch.tensor([30.0], dtype=torch.float64))
