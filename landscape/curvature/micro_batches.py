"""A batch in pieces of at most so many rows, for networks whose graph of a whole batch does not fit.

The batch's loss is the mean over its units, so it is the pieces' mean by their units: Σ_p u_p L_p / Σ_p u_p.
"""

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from landscape.batches import count, rows
from landscape.checks import require
from landscape.problem import Problem
from landscape.program import Batch
from landscape.vectors import Block


def pieces(problem: Problem, batch: Batch, size: int | None) -> Iterator[Batch]:
    """The batch in pieces of at most `size` rows, None for the batch itself; each piece with its own units.

    Raises:
        ValueError: if the weights of the pieces do not add up to the weight of the batch.
    """
    total = count(batch.targets)
    if size is None or size >= total:
        yield batch
        return
    ends = [(start, min(start + size, total)) for start in range(0, total, size)]
    parts = [(rows(batch.inputs, *ends_of), rows(batch.targets, *ends_of)) for ends_of in ends]
    units = [float(problem.weight(*part)) for part in parts]
    require(
        abs(sum(units) - batch.units) <= 1e-6 * batch.units,
        f"batch {batch.index}: weight must add up over its rows, got {sum(units)} for the pieces and {batch.units} "
        "for the batch; pass weight= or a smaller batch in place of micro_batch=",
    )
    for (inputs, targets), own in zip(parts, units, strict=True):
        if own > 0:
            yield replace(batch, inputs=inputs, targets=targets, units=own)


def weighted(total: Block | None, units: float, image: Tensor) -> Block:
    """total + units · image in float64."""
    term = units * image.detach().double()
    return term if total is None else total.add_(term)
