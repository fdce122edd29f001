"""A batch in pieces of at most so many rows, for networks whose graph of a whole batch does not fit.

The batch's loss is the mean over its units, so it is the pieces' mean by their units: Σ_p u_p L_p / Σ_p u_p. Where the
loss couples the samples, as contrastive losses and batch statistics do, it is not; whole and pieces are compared first.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from landscape.checks import require
from landscape.problem.batch import Batch
from landscape.problem.separable import require_separable

Weight = Callable[[object, object], "float | torch.Tensor"]


def pieces(batch: Batch, size: int | None, weight: Weight) -> Iterator[Batch]:
    """The batch in pieces of at most `size` rows, None for the batch itself; each piece with its own units.

    Raises:
        ValueError: if the weights of the pieces do not add up to the weight of the batch.
    """
    total = len(batch)
    if size is None or size >= total:
        yield batch
        return
    spans = [(start, min(start + size, total)) for start in range(0, total, size)]
    parts = [batch.rows(*span, 0.0) for span in spans]
    units = [float(weight(part.inputs, part.targets)) for part in parts]
    require(
        abs(sum(units) - batch.units) <= 1e-6 * batch.units,
        f"batch {batch.index}: weight must add up over its rows, got {sum(units)} for the pieces and {batch.units} "
        "for the batch; pass weight= or a smaller batch in place of micro_batch=",
    )
    yield from (replace(part, units=own) for part, own in zip(parts, units, strict=True) if own > 0)


def require_same_in_pieces(batch: Batch, size: int, weight: Weight) -> None:
    """Compare the loss of a batch, or of as much as fits in memory, with that of its pieces.

    Raises:
        ValueError: if they differ by more than rounding.
        OutOfMemoryError: if not even a single row fits.
    """
    what = f"batch {batch.index}: micro_batch={size}, asked for or taken for want of memory,"
    try:
        require_separable([batch], pieces(batch, size, weight), what)
    except torch.OutOfMemoryError:
        if size == 1:
            raise
        part = next(pieces(batch, size, weight))
        require_separable([part], pieces(part, (size + 1) // 2, weight), what)
