"""Loss and accuracy of every split at the points of a line, plane or curve through the weights."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from landscape.checks import integer_in, require
from landscape.problem import Problem
from landscape.side_effects import random_source
from landscape.slices.evaluation.accuracy import Accuracy, Counting, Score, counting, scored
from landscape.slices.evaluation.device_cache import cached_on_device
from landscape.slices.evaluation.engine import Point
from landscape.slices.evaluation.parametrisation import Buffers, Parametrisation
from landscape.slices.evaluation.subset import standard_error, subsample
from landscape.vectors import Vector

MEASURES = ("loss", "accuracy", "loss_stderr", "units")


@dataclass(frozen=True, eq=False)
class SplitEvaluator:
    """MEASURES of every split, at any weights.

    Args:
        problem: the scalar function; its data gives the batch-norm statistics where they are recomputed.
        splits: the same function on each split's data.
        counting: how each split's hits are counted.
        shares: of its data that a split holds, where only a subset was asked for.
    """

    problem: Problem
    splits: Mapping[str, Problem]
    counting: Mapping[str, Counting]
    shares: Mapping[str, float] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        return len(MEASURES), len(self.splits)

    def measure(self, w: Vector, buffers: Buffers) -> Tensor:
        """(4, splits) float64 on the CPU; NaN and infinity stay. `buffers` replace the model's own."""
        with torch.no_grad():
            buffers = buffers | self.problem.statistics(w, buffers)
            found = {name: scored(split, self.counting[name], w, buffers) for name, split in self.splits.items()}
        rows = [self.row(name, loss, score, w.device) for name, (loss, score) in found.items()]
        return torch.tensor(rows, dtype=torch.float64, device="cpu").view(-1, len(MEASURES)).T

    def row(self, name: str, loss: float, score: Score, device: torch.device) -> tuple[float, float, float, float]:
        """MEASURES of a split, from its mean loss and what else its pass has met."""
        units = score.added_up(self.splits[name].process_group, device)
        stderr = standard_error(score.losses, score.units, self.shares[name]) if self.shares else torch.nan
        return loss, score.accuracy, stderr, units


@dataclass(frozen=True, eq=False)
class SliceEvaluator(SplitEvaluator):
    """MEASURES of every split, at a point.

    Args:
        parametrisation: coordinates to weights.
    """

    parametrisation: Parametrisation = field(kw_only=True)

    def at(self, point: Point) -> Tensor:
        return self.measure(*self.parametrisation.at(point))

    def prepared(self) -> AbstractContextManager[None]:
        """Within the block the model is prepared once for all points; other threads wait."""
        alone = self.problem.batch_norm == "recompute"  # whose statistics are other passes
        return nullcontext() if alone else self.problem.kept_open()


def splits_of(problem: Problem, data: Mapping[str, Iterable[Any]] | None) -> dict[str, Problem]:
    """Split name to the problem on its data; without any, the problem itself under "train"."""
    if data is None:
        return {"train": problem}
    require(
        isinstance(data, Mapping) and len(data) > 0,
        f"data must map at least one split to its data, such as {{'train': loader}}, got {type(data).__name__}",
    )
    return {name: problem.with_data(own) for name, own in data.items()}


def slice_evaluator(
    problem: Problem,
    parametrisation: Parametrisation,
    data: Mapping[str, Iterable[Any]] | None,
    subset: int | None,
    generator: torch.Generator | None,
    accuracy: Accuracy | None = None,
) -> SliceEvaluator:
    """Its data is read once; of each split all, or `subset` samples that `generator` chooses, default seed 0."""
    if subset is not None:
        integer_in("subset", subset, 1)
    splits, source, shares = splits_of(problem, data), random_source(generator), {}
    for name, split in splits.items():
        if subset is None:
            splits[name] = cached_on_device(split)
        else:
            splits[name], shares[name] = subsample(split, subset, source)
    if problem.batch_norm != "recompute":
        base = problem.with_data([])  # asked for no statistics, it reads nothing
    else:
        base = splits["train"] if data is None and subset is None else cached_on_device(problem)
    how = {name: counting(split, accuracy) for name, split in splits.items()}
    return SliceEvaluator(base, splits, how, shares, parametrisation=parametrisation)
