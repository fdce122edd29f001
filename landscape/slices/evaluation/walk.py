"""The walk over the points of a slice: resumable, by one process, by workers, or by the ranks of a group."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, distributed
from tqdm import tqdm

from landscape.checks import integer_in, require
from landscape.processes import ProcessGroup, summed
from landscape.slices.evaluation.accuracy import name_of, reasons
from landscape.slices.evaluation.evaluator import MEASURES, Points, SliceEvaluator
from landscape.slices.evaluation.ranks import by_ranks
from landscape.slices.evaluation.walk_log import WalkJournal, kept
from landscape.slices.evaluation.workers import by_workers


@dataclass(frozen=True, eq=False)
class Manner:
    """How to walk: see `slice_2d` for each of them."""

    resume: str | Path | None = None
    workers: int = 1
    group: ProcessGroup | None = None
    progress: bool | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


def evaluate_points(
    evaluator: SliceEvaluator, points: Points, shape: Sequence[int], settings: Mapping[str, Any], how: Manner
) -> Any:
    """The fields that all slices share: loss, accuracy, loss_stderr and details, tensors of `shape`.

    Args:
        evaluator: what is measured.
        points: coordinates.
        shape: of the points in the result.
        settings: what decides the numbers besides the evaluator, as JSON holds it.
        how: processes, resume, progress.
    """
    integer_in("workers", how.workers, 1)
    sharded = evaluator.problem.process_group
    require(
        (how.workers == 1) + (how.group is None) + (sharded is None) >= 2,
        "workers=, group= and a problem of several processes exclude each other; choose one",
    )
    began = perf_counter()
    centre = evaluator.at([0.0] * evaluator.parametrisation.axes)
    pace = perf_counter() - began
    values, estimate = _values(evaluator, points, centre, pace, settings, how)
    found = values.view(len(MEASURES), *shape, -1)
    named = {
        what: {name: part[..., i].clone() for i, name in enumerate(evaluator.splits)}
        for what, part in zip(MEASURES, found, strict=True)
    }
    units = {name: float(centre[3, i]) for i, name in enumerate(evaluator.splits)}
    details = {
        "units": {name: int(n) if n.is_integer() else n for name, n in units.items()},
        "batch_norm": evaluator.problem.batch_norm,
        "subset": dict(evaluator.shares) or None,
        "no_accuracy": reasons(evaluator.counting, centre[0], centre[1]),
        "seconds": perf_counter() - began,
        "estimated_seconds": estimate,
        **how.details,
    }
    return {
        "loss": named["loss"],
        "accuracy": named["accuracy"],
        "loss_stderr": named["loss_stderr"] if evaluator.shares else {},
        "details": details,
    }


def _values(
    evaluator: SliceEvaluator, points: Points, centre: Tensor, pace: float, settings: Mapping[str, Any], how: Manner
) -> tuple[Tensor, float]:
    """MEASURES at all points, (4, points, splits), and the seconds that the points still to do were thought to take."""
    group = how.group if how.group is not None else evaluator.problem.process_group
    first = group is None or distributed.get_rank(group) == 0
    journal = None
    if how.resume is not None and first:
        journal = WalkJournal(Path(how.resume), _settings(evaluator) | dict(settings), centre[0])
    values, done = _start(journal, (len(points), *centre.shape), evaluator.device, group)
    todo = (~done).nonzero().flatten().tolist()
    side_by_side = how.workers if how.group is None else distributed.get_world_size(group)
    estimate = pace * -(-len(todo) // side_by_side)
    hidden = not first or (None if how.progress is None else not how.progress)
    about = f"about {tqdm.format_interval(estimate)} for {len(todo)}"
    with (
        kept(journal) as keep,
        tqdm(total=len(points), initial=len(points) - len(todo), desc=about, unit="point", disable=hidden) as bar,
    ):
        for index, row in _rows(evaluator, points, todo, how):
            values[index] = row
            keep(index, row)
            bar.update()
    return values.transpose(0, 1).contiguous(), estimate


def _rows(evaluator: SliceEvaluator, points: Points, todo: Sequence[int], how: Manner) -> Iterator[tuple[int, Tensor]]:
    if how.workers > 1 and len(todo) > 1:
        return by_workers(evaluator, points, todo, min(how.workers, len(todo)))
    if how.group is not None:
        return by_ranks(evaluator, points, todo, how.group)
    return ((index, evaluator.at(points[index])) for index in todo)


def _start(
    journal: WalkJournal | None, shape: Sequence[int], device: torch.device, group: ProcessGroup | None
) -> tuple[Tensor, Tensor]:
    """Values (points, ...) and mask (points,) of the points done: all processes get what the journal's owner reads."""

    def own() -> tuple[Tensor, float]:
        block = torch.zeros(*shape, 2, dtype=torch.float64, device="cpu")
        for index, row in (journal.read() if journal is not None else {}).items():
            block[index] = torch.stack([row, torch.ones_like(row)], dim=-1)
        return block, 1.0

    block, _ = summed(own, (*shape, 2), device, group)
    values, done = block.cpu().unbind(-1)
    return values, done.flatten(1).all(1)


def _settings(evaluator: SliceEvaluator) -> dict[str, Any]:
    shares = {"subset": dict(evaluator.shares)} if evaluator.shares else {}
    policy = evaluator.problem.batch_norm
    named = {name_of(how) for how in evaluator.counting.values()} - {None}  # one function for all splits
    counted = {"accuracy": named.pop()} if named else {}
    return {
        "splits": list(evaluator.splits),
        "batch_norm": policy,
        **shares,
        **counted,
        **evaluator.parametrisation.settings(),
    }
