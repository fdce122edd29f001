"""Loss and accuracy of every split at the points of a line or plane through the weights."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from landscape.checks import integer_in
from landscape.problem import Problem
from landscape.side_effects import random_source
from landscape.slices.evaluation.accuracy import Accuracy, Counting, counting, scored
from landscape.slices.evaluation.device_cache import cached_on_device
from landscape.slices.evaluation.parametrisation import Buffers, Parametrisation
from landscape.slices.evaluation.splits import splits_of
from landscape.slices.evaluation.subset import standard_error, subsample
from landscape.vectors import Vector

Points = Sequence[Sequence[float]]  # coordinates of each
MEASURES = ("loss", "accuracy", "loss_stderr", "units")


@dataclass(frozen=True, eq=False)
class SliceEvaluator:
    """What is measured, and where.

    Args:
        problem: the scalar function; its data gives the batch-norm statistics where they are recomputed.
        parametrisation: coordinates to weights.
        splits: the same function on each split's data.
        shares: of its data that a split holds, where only a subset was asked for.
        counting: how each split's hits are counted.
    """

    problem: Problem
    parametrisation: Parametrisation
    splits: Mapping[str, Problem]
    shares: Mapping[str, float]
    counting: Mapping[str, Counting]

    def at(self, point: Sequence[float]) -> Tensor:
        """What MEASURES names, of each split, (4, splits) float64; NaN and infinity stay."""
        w, buffers = self.parametrisation.at(point)
        with torch.no_grad():
            buffers = buffers | self.problem.statistics(w, buffers)
            rows = [self._row(name, w, buffers) for name in self.splits]
        return torch.tensor(rows, dtype=torch.float64, device="cpu").T

    @property
    def device(self) -> torch.device:
        return self.problem.vector().device

    def _row(self, name: str, w: Vector, buffers: Buffers) -> tuple[float, float, float, float]:
        split = self.splits[name]
        loss, score = scored(split, self.counting[name], w, buffers)
        units = score.added_up(split.process_group, w.device)
        stderr = standard_error(score.losses, score.units, self.shares[name]) if self.shares else torch.nan
        return loss, score.accuracy, stderr, units


def slice_evaluator(
    problem: Problem,
    parametrisation: Parametrisation,
    data: Mapping[str, Iterable[Any]] | None,
    subset: int | None,
    generator: torch.Generator | None,
    accuracy: Accuracy | None = None,
) -> SliceEvaluator:
    """A SliceEvaluator with its data read once; of each split all, or `subset` samples drawn from `generator`, default 0."""
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
    return SliceEvaluator(
        base, parametrisation, splits, shares, {name: counting(split, accuracy) for name, split in splits.items()}
    )
