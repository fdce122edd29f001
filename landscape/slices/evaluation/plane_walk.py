"""Some numbers at each point of a plane w + x d1 + y d2, resumable."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from landscape.problem import Problem
from landscape.slices.evaluation.parametrisation import Plane
from landscape.slices.evaluation.walk_log import WalkJournal, kept
from landscape.vectors import Vector


def walk_plane(
    problem: Problem,
    directions: tuple[Tensor, Tensor],
    axes: tuple[Tensor, Tensor],
    at: Callable[[Vector], Sequence[float]],
    count: int,
    settings: Mapping[str, Any],
    *,
    resume: str | Path | None,
    progress: bool | None,
) -> tuple[Tensor, dict[str, Any]]:
    """at(w + x d1 + y d2), `count` numbers, at all points: (count, ny, nx), and the details of a map.

    A ValueError of `at` at a point where the loss can be computed means that derivatives are not finite there: NaN.
    What is wrong with the data or the criterion raises as anywhere.
    """
    (d1, d2), (xs, ys) = directions, axes
    plane, started = Plane(problem.vector(), {"d1": d1, "d2": d2}), monotonic()
    journal = None
    if resume is not None:
        ranges = {"x": xs.tolist(), "y": ys.tolist(), "batch_norm": problem.batch_norm}
        journal = WalkJournal(
            Path(resume), {**settings, **ranges, **plane.settings()}, _loss(problem, plane.w).cpu().double()[None]
        )
    done = journal.read() if journal is not None else {}
    points = [(x, y) for y in ys.tolist() for x in xs.tolist()]
    values = torch.full((len(points), count), torch.nan, dtype=torch.float64, device="cpu")
    hidden = None if progress is None else not progress
    with kept(journal) as keep, tqdm(total=len(points), initial=len(done), unit="point", disable=hidden) as bar:
        for index, point in enumerate(points):
            if index in done:
                values[index] = done[index]
                continue
            values[index] = _at(problem, at, plane.at(point)[0], count)
            keep(index, values[index])
            bar.update()
    norms = [float(d1.norm()), float(d2.norm())]
    return values.T.reshape(count, len(ys), len(xs)), {
        "batch_norm": problem.batch_norm,
        "norms": norms,
        "cosine": float(d1.double() @ d2.double()) / (norms[0] * norms[1]),
        "seconds": monotonic() - started,
    }


def _at(problem: Problem, at: Callable[[Vector], Sequence[float]], w: Vector, count: int) -> Tensor:
    try:
        return torch.tensor(at(w), dtype=torch.float64, device="cpu")
    except ValueError:
        _loss(problem, w)
        return torch.full((count,), torch.nan, dtype=torch.float64, device="cpu")


def _loss(problem: Problem, w: Vector) -> Tensor:
    """(), NaN and infinity as they are."""
    with torch.no_grad():
        return problem.mean(lambda batch: batch.evaluate(batch.w)[0], w)
