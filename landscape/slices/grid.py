"""Loss and accuracy on a line or a plane through the weights: L(w + x d1 + y d2).

Each point starts from the one stored w, so that no rounding adds up from point to point, and the point x = y = 0 is the
network as it is. Where a grid is symmetric with an odd number of points it holds that point exactly.
Source: Goodfellow et al. 2015, arXiv:1412.6544 (lines); Li et al. 2018, arXiv:1712.09913 (planes).
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from landscape.checks import integer_in, require
from landscape.problem import Problem
from landscape.results import Slice1D, Slice2D
from landscape.slices.section import Section
from landscape.slices.splits import splits_of

Range = tuple[float | int, float | int, int]  # first, last, how many


def slice_1d(
    problem: Problem,
    direction: Tensor,
    x: Range = (-1.0, 1.0, 51),
    data: Mapping[str, Iterable[Any]] | None = None,
    *,
    progress: bool | None = None,
) -> Slice1D:
    """Loss and accuracy along w + x d, w the model's own weights.

    Args:
        problem: the scalar function. Under batch_norm="recompute" the statistics of all splits come from its data.
        direction: d, (P,); `random_directions`, an eigenvector, or w' - w to interpolate to other weights w'.
        x: first and last point, and how many.
        data: split name to data as `Problem` takes it, such as {"train": loader, "test": loader}; default the
            problem's own under "train".
        progress: show a bar with the time left; default where the output is a terminal.
    Returns:
        Slice1D. A loss that is NaN or infinite stays so; accuracy is NaN where the targets are no classes.
    Raises:
        ValueError: if the direction is zero or does not fit, a range is empty, or there is no split.
    """
    xs = _axis("x", x)
    line = Section(problem, problem.vector(), splits_of(problem, data), {"direction": direction})
    loss, accuracy = line.walk([(value,) for value in xs.tolist()], progress=progress)
    return Slice1D(xs, line.by_split(loss), line.by_split(accuracy))


def slice_2d(
    problem: Problem,
    d1: Tensor,
    d2: Tensor,
    x: Range = (-1.0, 1.0, 51),
    y: Range = (-1.0, 1.0, 51),
    data: Mapping[str, Iterable[Any]] | None = None,
    *,
    checkpoint: str | Path | None = None,
    progress: bool | None = None,
) -> Slice2D:
    """Loss and accuracy on w + x d1 + y d2, w the model's own weights.

    Args:
        problem: the scalar function. Under batch_norm="recompute" the statistics of all splits come from its data.
        d1: (P,), drawn to the right.
        d2: (P,), drawn upwards; not made orthogonal to d1, the result tells the cosine.
        x: first and last point along d1, and how many.
        y: the same along d2.
        data: split name to data as `Problem` takes it, such as {"train": loader, "test": loader}; default the
            problem's own under "train".
        checkpoint: an .npz file that keeps the points done, at most some seconds old; the same call goes on from it.
        progress: show a bar with the time left; default where the output is a terminal.
    Returns:
        Slice2D. A loss that is NaN or infinite stays so; accuracy is NaN where the targets are no classes.
    Raises:
        ValueError: if a direction is zero or does not fit, a range is empty, there is no split, or the checkpoint does
            not end in .npz or was written with other settings.
    """
    xs, ys = _axis("x", x), _axis("y", y)
    plane = Section(problem, problem.vector(), splits_of(problem, data), {"d1": d1, "d2": d2})
    points = [(across, up) for up in ys.tolist() for across in xs.tolist()]
    journal = plane.journal(Path(checkpoint), {"x": list(x), "y": list(y)}) if checkpoint is not None else None
    loss, accuracy = plane.walk(points, journal, progress=progress).view(2, len(ys), len(xs), -1)
    one, two = d1.double().cpu(), d2.double().cpu()
    norms = torch.stack([one.norm(), two.norm()])
    return Slice2D(xs, ys, plane.by_split(loss), plane.by_split(accuracy), norms, one @ two / norms.prod())


def _axis(name: str, span: Range) -> Tensor:
    """(n,) float64, first and last as given; exactly 0 in the middle of a symmetric range."""
    require(len(span) == 3, f"{name} must be (first, last, points), got {span!r}")
    low, high, points = span
    integer_in(f"{name}: the number of points", points, 1)
    require(-torch.inf < low < high < torch.inf, f"{name} must rise from first to last, got {low} to {high}")
    index = torch.arange(points, dtype=torch.float64)
    axis = (low * index.flip(0) + high * index) / max(points - 1, 1)
    axis[-1], axis[0] = high, low
    return axis
