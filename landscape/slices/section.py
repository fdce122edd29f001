"""The line or plane that directions span through a network's weights, and the walk over points on it."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from landscape.checks import require, vector_like
from landscape.journal import fingerprint
from landscape.problem import Problem
from landscape.slices.splits import evaluated
from landscape.slices.walk_journal import WalkJournal
from landscape.vectors import Vector


@dataclass(frozen=True, eq=False)
class Section:
    """Points w + Σ_i a_i d_i.

    Args:
        problem: the scalar function; its data gives the batch-norm statistics where they are recomputed.
        w: (P,), the point with coordinates 0.
        splits: the same function on each split's data.
        directions: name to d_i, (P,).
    Raises:
        ValueError: if a direction does not fit w, is zero or not finite.
    """

    problem: Problem
    w: Vector
    splits: Mapping[str, Problem]
    directions: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        for name, direction in self.directions.items():
            vector_like(name, direction, self.w)
            norm = float(direction.norm())
            require(0 < norm < torch.inf, f"{name} must be finite and not zero, got norm {norm}")

    def at(self, point: Sequence[float]) -> Tensor:
        """Loss and accuracy of each split, (2, splits) float64."""
        w = self.w
        for step, direction in zip(point, self.directions.values(), strict=True):
            w = w + step * direction
        return evaluated(self.splits, w, self.problem.statistics(w))

    def walk(
        self, points: Sequence[Sequence[float]], journal: WalkJournal | None = None, *, progress: bool | None = None
    ) -> Tensor:
        """Loss and accuracy of each split at all points, (2, points, splits)."""
        values = torch.full((2, len(points), len(self.splits)), torch.nan, dtype=torch.float64)
        done = torch.zeros(len(points), dtype=torch.bool)
        hidden = None if progress is None else not progress
        with journal.kept(values, done) if journal is not None else nullcontext(lambda: None) as keep:
            todo = (~done).nonzero().flatten().tolist()
            with tqdm(total=len(points), initial=len(points) - len(todo), unit="point", disable=hidden) as bar:
                for index in todo:
                    values[:, index] = self.at(points[index])
                    done[index] = True
                    keep()
                    bar.update()
        return values

    def by_split(self, values: Tensor) -> dict[str, Tensor]:
        """The last axis of `values` as a mapping."""
        return {name: values[..., index].clone() for index, name in enumerate(self.splits)}

    def journal(self, path: Path, ranges: Mapping[str, Any]) -> WalkJournal:
        """A journal in `path` that goes on only where all of this is the same."""
        settings = {
            **ranges,
            "splits": list(self.splits),
            "batch_norm": self.problem.batch_norm,
            "weights": fingerprint(self.w),
            **{name: fingerprint(direction) for name, direction in self.directions.items()},
        }
        return WalkJournal(path, settings, self.at([0.0] * len(self.directions))[0])
