"""A split's data, read once and kept on the device for a walk over thousands of points."""

from torch import Tensor

from landscape.batches import nbytes
from landscape.problem import Problem
from landscape.program import Batch

MEMORY = 2**30  # bytes; a split that takes more is read anew at every point


class _TooLargeError(Exception):
    """The data does not fit in MEMORY."""


def held(problem: Problem) -> Problem:
    """The same function of data in memory, or the problem itself where that is too large or dealt out to processes."""
    if problem.process_group is not None:
        return problem
    pairs, size = [], 0

    def keep(batch: Batch) -> Tensor:
        nonlocal size
        size += nbytes(batch.inputs) + nbytes(batch.targets)
        if size > MEMORY:
            raise _TooLargeError
        pairs.append((batch.inputs, batch.targets))
        return batch.w.new_zeros(())

    try:
        problem.mean(keep, buffers={})
    except _TooLargeError:
        return problem
    return problem.with_data(pairs)
