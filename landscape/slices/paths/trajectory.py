"""A training run projected on a plane: where it was, how far off the plane, and what its loss was there.

x, y solve the normal equations of min |w_t − w − x d1 − y d2|, so that the directions need not be orthogonal. The loss
of a snapshot is not the plane's at (x, y) but the network's own, with the buffers it had then.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from landscape.checks import vector_like
from landscape.problem import Problem
from landscape.slices.directions.direction_set import orthogonalised
from landscape.slices.evaluation.accuracy import uncounted
from landscape.slices.evaluation.engine import Execution, Point, evaluate_points
from landscape.slices.evaluation.evaluator import SplitEvaluator, splits_of
from landscape.slices.paths.recorder import Recorder, Snapshots
from landscape.storage.results import Trajectory


def project_trajectory(
    problem: Problem,
    snapshots: Recorder | str | Path,
    d1: Tensor,
    d2: Tensor,
    data: Mapping[str, Iterable[Any]] | None = None,
    *,
    progress: bool | None = None,
) -> Trajectory:
    """Where a training run was on the plane w + x d1 + y d2, with the true losses.

    Args:
        problem: its network is the origin w. Under batch_norm="eval" a snapshot has the statistics it was recorded
            with.
        snapshots: a `Recorder`, or its folder. One at a time is in memory.
        d1: (P,), as of `pca_directions`.
        d2: (P,); not along d1.
        data: split name to data as `Problem` takes it; default the problem's own under "train". An empty mapping spares
            the losses.
        progress: show a bar with the time left; default on a terminal and in a notebook, else a line every 30 s.
    Returns:
        Trajectory. A loss that is NaN or infinite stays so.
    Raises:
        ValueError: if the snapshots or directions do not fit, or the directions are parallel.
    """
    w = problem.require_whole("a trajectory").vector()
    kept = Snapshots(snapshots, problem.layout)
    for name, direction in (("d1", d1), ("d2", d2)):
        vector_like(name, direction, w)
    plane = torch.stack([d1, d2]).double()
    axes = torch.stack(orthogonalised(plane))
    axes = axes / axes.norm(dim=1, keepdim=True)
    change = torch.linalg.inv(plane @ axes.T)  # (2, 2): from coordinates along the axes to those along d1, d2
    splits = {} if data is not None and len(data) == 0 else splits_of(problem, data)
    losses = SplitEvaluator(problem, splits, dict.fromkeys(splits, uncounted))
    run = _Projection(problem, losses, kept, axes, change)
    table, _ = evaluate_points(run, [(step,) for step in kept.steps], Execution(progress=progress), unit="snapshot")
    return Trajectory(
        steps=torch.tensor(kept.steps, device="cpu"),
        coordinates=table[:, :2].clone(),
        off_plane=table[:, 4].clone(),
        distance=table[:, 5].clone(),
        loss={name: table[:, 6 + index].clone() for index, name in enumerate(splits)},
        explained=table[:, 2:4].sum(0) / table[:, 5].square().sum(),
    )


@dataclass(frozen=True, eq=False)
class _Projection:
    """Of a snapshot: x, y; squares of its coordinates along the orthonormal `axes`; distances off the plane and from w.

    Then its losses.
    """

    problem: Problem
    losses: SplitEvaluator
    kept: Snapshots
    axes: Tensor  # (2, P)
    change: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return (6 + len(self.losses.splits),)

    def at(self, point: Point) -> Tensor:
        w = self.problem.vector()
        weights, buffers = self.kept.at(int(point[0]))
        moved = weights.to(w.device).double() - w.double()
        inside = self.axes @ moved
        rest = moved - inside @ self.axes
        own = {name: buffer.to(w.device) for name, buffer in buffers.items()}
        found = [inside @ self.change, inside.square(), torch.stack([rest.norm(), moved.norm()])]
        return torch.cat([*(part.cpu() for part in found), self.losses.measure(weights.to(w), own)[0]])
