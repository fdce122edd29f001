"""Some numbers at each point of a plane w + x d1 + y d2, resumable."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from landscape.checks import positive, require, vector_like
from landscape.journal import Journal, fingerprint
from landscape.problem import Problem
from landscape.vectors import Vector

SAME_LOSS = 1e-3  # relative; the order of a sum may change between runs, the data may not


def walk_plane(
    problem: Problem,
    directions: tuple[Tensor, Tensor],
    axes: tuple[Tensor, Tensor],
    at: Callable[[Vector], Sequence[float]],
    count: int,
    settings: Mapping[str, Any],
    *,
    checkpoint: str | Path | None,
    progress: bool | None,
) -> tuple[Tensor, dict[str, Any]]:
    """at(w + x d1 + y d2), `count` numbers, at all points: (count, ny, nx), and the details of a map.

    A ValueError of `at` at a point where the loss can be computed means that derivatives are not finite there: NaN.
    What is wrong with the data or the criterion raises as anywhere.
    """
    w = problem.vector()
    for name, direction in zip(("d1", "d2"), directions, strict=True):
        vector_like(name, direction, w)
        positive(f"the norm of {name}", float(direction.norm()))
    (d1, d2), (xs, ys) = directions, axes
    journal = Journal(checkpoint, {**settings, "batch_norm": problem.batch_norm, **_prints(w, d1, d2, xs, ys)})
    values = torch.full((count, len(ys) * len(xs)), torch.nan, dtype=torch.float64)
    done = torch.zeros(values.shape[1], dtype=torch.bool)
    state = {"values": values, "done": done, "loss": _loss(problem, w) if journal.path else torch.empty(0)}
    _take_up(journal, state)
    points = [(x, y) for y in ys.tolist() for x in xs.tolist()]
    started, before = monotonic(), int(done.sum())
    hidden = None if progress is None else not progress
    try:
        with tqdm(total=len(points), initial=before, unit="point", disable=hidden) as bar:
            for index in (~done).nonzero().flatten().tolist():
                x, y = points[index]
                values[:, index] = _at(problem, at, w + x * d1 + y * d2, count)
                done[index] = True
                journal.save_if_due(lambda: state)
                bar.update()
    finally:
        journal.save(state)
    norms = [float(d1.norm()), float(d2.norm())]
    return values.view(count, len(ys), len(xs)), {
        "batch_norm": problem.batch_norm,
        "norms": norms,
        "cosine": float(d1.double() @ d2.double()) / (norms[0] * norms[1]),
        "seconds": monotonic() - started,
    }


def _at(problem: Problem, at: Callable[[Vector], Sequence[float]], w: Vector, count: int) -> Tensor:
    try:
        return torch.tensor(at(w), dtype=torch.float64)
    except ValueError:
        _loss(problem, w)
        return torch.full((count,), torch.nan, dtype=torch.float64)


def _loss(problem: Problem, w: Vector) -> Tensor:
    """(), NaN and infinity as they are."""
    with torch.no_grad():
        return problem.mean(lambda batch: batch.evaluate(batch.w)[0], w)


def _prints(*tensors: Tensor) -> dict[str, str]:
    return dict(zip(("weights", "d1", "d2", "x", "y"), map(fingerprint, tensors), strict=True))


def _take_up(journal: Journal, state: Mapping[str, Tensor]) -> None:
    """Fill `state` from the file, if there is one of the same work on the same data."""
    stored = journal.load()
    if stored is None:
        return
    loss = state["loss"].cpu()
    same = torch.allclose(stored["loss"], loss, rtol=SAME_LOSS, atol=0.0, equal_nan=True)
    require(same, f"checkpoint {journal.path} was written with other data or criterion; delete it or name another")
    state["values"].copy_(stored["values"])
    state["done"].copy_(stored["done"])
