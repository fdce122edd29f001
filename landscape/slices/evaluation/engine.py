"""Numbers at many points, each kept as soon as it is known: by one process, by workers, or by the ranks of a group.

The ranks have network and all the data each. They go in rounds of one point a rank, joined by one small all-reduce, so
that all end with the same values; a flag travels with it: where one fails, all raise.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, distributed
from tqdm import tqdm

from landscape.checks import integer_in, require
from landscape.problem import Problem
from landscape.processes import ProcessGroup, Sums, WorkerError, pool, summed
from landscape.processes.progress import progress_bar
from landscape.slices.evaluation.walk_log import WalkLog, kept

PREPARED = 0.2  # seconds for which a model is prepared at once, and other threads wait

Point = Sequence[float]
Points = Sequence[Point]


@runtime_checkable
class PointEvaluator(Protocol):
    """What is measured at a point."""

    @property
    def problem(self) -> Problem:
        """On whose device and by whose processes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the numbers at a point."""

    def at(self, point: Point) -> Tensor:
        """The numbers, float64 on the CPU."""


@runtime_checkable
class PreparedEvaluator(PointEvaluator, Protocol):
    """Several points cost it less within one block than each by itself."""

    def prepared(self) -> AbstractContextManager[None]:
        """That block."""


@dataclass(frozen=True, eq=False)
class Execution:
    """What a run over many points keeps, shares and shows: see `slice_2d` for each of them."""

    resume: str | Path | None = None
    workers: int | Executor = 1
    group: ProcessGroup | None = None
    progress: bool | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.workers, Executor):
            integer_in("workers", self.workers, 1)

    @property
    def side_by_side(self) -> int:
        """Points at a time, as far as that is known."""
        if self.group is not None:
            return distributed.get_world_size(self.group)
        return 1 if isinstance(self.workers, Executor) else self.workers


def evaluate_points(
    evaluator: PointEvaluator,
    points: Points,
    how: Execution,
    origin: Callable[[], tuple[Mapping[str, Any], Tensor]] | None = None,
    *,
    pace: float | None = None,
    unit: str = "point",
) -> tuple[Tensor, float | None]:
    """Numbers at all points, (points, *evaluator.shape), and the seconds that those left were thought to take.

    Args:
        evaluator: what is measured.
        points: coordinates.
        how: processes, resume, progress.
        origin: gives what decides the numbers, as JSON holds it, and the losses where the work begins: of resume=.
        pace: seconds of a point.
        unit: what a point is called.
    Raises:
        ValueError: if the file of resume= is of other work, or something cannot be sent to a worker.
        RuntimeError: if a worker fails or is killed; the points of the others are kept.
    """
    sharded = evaluator.problem.process_group
    require(
        (how.workers == 1) + (how.group is None) + (sharded is None) >= 2,
        "workers=, group= and a problem of several processes exclude each other; choose one",
    )
    group = how.group if how.group is not None else sharded
    first = group is None or distributed.get_rank(group) == 0
    shape = (len(points), *evaluator.shape)
    log = WalkLog(Path(how.resume), *origin(), shape) if origin is not None and how.resume and first else None
    values, done = _start(log, shape, evaluator.problem.vector().device, group)
    todo = (~done).nonzero().flatten().tolist()
    estimate = None if pace is None else pace * -(-len(todo) // how.side_by_side)
    about = None if estimate is None else f"about {tqdm.format_interval(estimate)} for {len(todo)}"
    progress = how.progress if first else False
    with (
        kept(log) as keep,
        progress_bar(len(points), initial=len(points) - len(todo), desc=about, unit=unit, progress=progress) as bar,
    ):
        for block, some in _blocks(evaluator, todo, how, pace):
            with block:
                for index, row in _rows(evaluator, points, some, how):
                    values[index] = row
                    keep(index, row)
                    bar.update()
    return values, estimate


def _blocks(
    evaluator: PointEvaluator, todo: Sequence[int], how: Execution, pace: float | None
) -> Iterator[tuple[AbstractContextManager[None], Sequence[int]]]:
    """The points to do, in groups, and the block in which each group is done."""
    if how.workers != 1 or how.group is not None or not pace or not isinstance(evaluator, PreparedEvaluator):
        yield nullcontext(), todo
        return
    count = max(1, int(PREPARED / pace))
    for start in range(0, len(todo), count):
        yield evaluator.prepared(), todo[start : start + count]


def _rows(
    evaluator: PointEvaluator, points: Points, todo: Sequence[int], how: Execution
) -> Iterator[tuple[int, Tensor]]:
    if how.group is not None:
        yield from _by_ranks(evaluator, points, todo, how.group)
        return
    workers = how.workers if isinstance(how.workers, Executor) else min(how.workers, max(len(todo), 1))
    try:
        with pool(partial(_row, evaluator, points), workers, unit="point") as results:
            for index, row in results(todo):
                yield index, torch.tensor(row, dtype=torch.float64, device="cpu").view(evaluator.shape)
    except WorkerError as error:
        raise RuntimeError(f"{error}; with resume= the same call goes on from the points done") from error


def _row(evaluator: PointEvaluator, points: Points, index: int) -> Any:
    return evaluator.at(points[index]).tolist()  # a tensor would take shared memory on its way


def _by_ranks(
    evaluator: PointEvaluator, points: Points, todo: Sequence[int], group: ProcessGroup
) -> Iterator[tuple[int, Tensor]]:
    rank, count = distributed.get_rank(group), distributed.get_world_size(group)
    shape = (count, *evaluator.shape)
    for start in range(0, len(todo), count):
        together = todo[start : start + count]

        def own(together: Sequence[int] = together) -> Sums:
            block = torch.zeros(shape, dtype=torch.float64, device="cpu")  # x + 0 = x to the bit, NaN and infinity too
            if rank < len(together):
                block[rank] = evaluator.at(points[together[rank]])
            return block, 1.0

        block, _ = summed(own, shape, evaluator.problem.vector().device, group)
        yield from zip(together, block.cpu(), strict=False)


def _start(
    log: WalkLog | None, shape: Sequence[int], device: torch.device, group: ProcessGroup | None
) -> tuple[Tensor, Tensor]:
    """Values (points, ...) and mask (points,) of the points done: all processes get what the log's owner reads."""

    def own() -> Sums:
        block = torch.zeros(*shape, 2, dtype=torch.float64, device="cpu")
        for index, row in (log.rows() if log is not None else {}).items():
            block[index] = torch.stack([row, torch.ones_like(row)], dim=-1)
        return block, 1.0

    block, _ = summed(own, (*shape, 2), device, group)
    values, done = block.cpu().unbind(-1)
    return values, done.flatten(1).all(1)
