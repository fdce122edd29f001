"""Points of a walk shared by the processes of a group, such as torchrun starts: each has network and all the data.

In rounds of one point a rank, joined by one small all-reduce, so that all ranks end with the same values. A flag
travels with it: where one rank fails, all raise.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, distributed

from landscape.checks import require
from landscape.processes import ProcessGroup, Sums, agree, summed
from landscape.slices.evaluation.evaluator import MEASURES, Points, SliceEvaluator


def by_ranks(
    evaluator: SliceEvaluator, points: Points, todo: Sequence[int], group: ProcessGroup
) -> Iterator[tuple[int, Tensor]]:
    """Index and values of the points `todo`, on every rank. Raises ValueError if weights or directions differ."""
    rank, count = distributed.get_rank(group), distributed.get_world_size(group)
    corner, _ = evaluator.parametrisation.at([1.0] * evaluator.parametrisation.axes)
    require(
        agree(corner.norm().reshape(1), group),
        "the processes' weights and directions must be equal, got different ones; use generators of the same seed",
    )
    shape = (count, len(MEASURES), len(evaluator.splits))
    for start in range(0, len(todo), count):
        together = todo[start : start + count]

        def own(together: Sequence[int] = together) -> Sums:
            block = torch.zeros(shape, dtype=torch.float64, device="cpu")  # x + 0 = x to the bit, NaN and infinity too
            if rank < len(together):
                block[rank] = evaluator.at(points[together[rank]])
            return block, 1.0

        block, _ = summed(own, shape, evaluator.device, group)
        yield from zip(together, block.cpu(), strict=False)
