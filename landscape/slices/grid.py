"""Loss and accuracy on a line or a plane through the weights: L(w + x d1 + y d2).

Each point starts from the one stored w, so that no rounding adds up from point to point, and the point x = y = 0 is the
network as it is. Where a grid is symmetric with an odd number of points it holds that point exactly.
Source: Goodfellow et al. 2015, arXiv:1412.6544 (lines); Li et al. 2018, arXiv:1712.09913 (planes).
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from landscape.checks import require
from landscape.problem import Problem
from landscape.processes import ProcessGroup
from landscape.slices.evaluation.accuracy import Accuracy
from landscape.slices.evaluation.axis import Range, axis
from landscape.slices.evaluation.engine import Execution
from landscape.slices.evaluation.evaluator import slice_evaluator
from landscape.slices.evaluation.fields import slice_fields
from landscape.slices.evaluation.find_range import find_range
from landscape.slices.evaluation.parametrisation import Plane
from landscape.storage.results import Slice1D, Slice2D, SliceBand


def slice_1d(
    problem: Problem,
    direction: Tensor | Sequence[Tensor],
    x: Range | str = (-1.0, 1.0, 51),
    data: Mapping[str, Iterable[Any]] | None = None,
    *,
    subset: int | None = None,
    generator: torch.Generator | None = None,
    resume: str | Path | None = None,
    workers: int | Executor = 1,
    group: ProcessGroup | None = None,
    accuracy: Accuracy | None = None,
    progress: bool | None = None,
    details: Mapping[str, Any] | None = None,
) -> Slice1D | SliceBand:
    """Loss and accuracy along w + x d, w the model's own weights, for one direction or for K.

    Args:
        problem: the scalar function. Under batch_norm="recompute" the statistics of all splits come from its data.
        direction: d, (P,), such as `random_directions` gives or an eigenvector; or a block (P, K) or sequence of them.
        x: first and last point, and how many; "auto" is 51 points to where the loss of the first split has grown
            tenfold on one side of a line.
        data: see `slice_2d`, as the arguments after it.
    Returns:
        Slice1D of one direction, SliceBand of a block or sequence. A loss that is NaN or infinite stays so; accuracy
        is NaN where it cannot be known, and `details` says why.
    Raises:
        ValueError: as `slice_2d`.
    """
    one = isinstance(direction, Tensor) and direction.ndim == 1
    lines = list(direction.reshape(len(direction), -1).T if isinstance(direction, Tensor) else direction)
    require(len(lines) > 0, "direction must hold at least one vector, got none")
    names = ["direction"] if one else [f"direction {k}" for k in range(len(lines))]
    plane = Plane(problem.vector(), dict(zip(names, lines, strict=True)), problem.shards)
    bundle = slice_evaluator(problem, plane, data, subset, generator, accuracy)
    xs = axis("x", x, partial(find_range, bundle, range(len(lines))))
    points = [[value if i == k else 0.0 for i in range(len(lines))] for k in range(len(lines)) for value in xs.tolist()]
    shape = (len(xs),) if one else (len(lines), len(xs))
    how = _execution(problem, resume, workers, group, progress)
    fields = slice_fields(bundle, points, shape, lambda: {"x": xs.tolist(), **plane.settings()}, how, details)
    return (Slice1D if one else SliceBand)(xs, **fields)


def slice_2d(
    problem: Problem,
    d1: Tensor,
    d2: Tensor,
    x: Range | str = (-1.0, 1.0, 51),
    y: Range | str = (-1.0, 1.0, 51),
    data: Mapping[str, Iterable[Any]] | None = None,
    *,
    subset: int | None = None,
    generator: torch.Generator | None = None,
    resume: str | Path | None = None,
    workers: int | Executor = 1,
    group: ProcessGroup | None = None,
    accuracy: Accuracy | None = None,
    progress: bool | None = None,
    details: Mapping[str, Any] | None = None,
) -> Slice2D:
    """Loss and accuracy on w + x d1 + y d2, w the model's own weights.

    Each split is read once and kept on the device, as long as it takes no more than 1 GiB.

    Args:
        problem: the scalar function. Under batch_norm="recompute" the statistics of all splits come from its data.
        d1: (P,), drawn to the right.
        d2: (P,), drawn upwards; not made orthogonal to d1, the result tells the cosine.
        x, y: first and last point along d1 and d2, and how many; "auto" is 51 points to where the loss of the first
            split has grown tenfold on one side, NaN and infinity included, see `find_range.py`.
        data: split name to data as `Problem` takes it, such as {"train": loader, "test": loader}; default the
            problem's own under "train".
        subset: use so many samples of each split, the same at all points, and tell the standard error of the loss over
            samples, 0 for a split that has no more.
        generator: that draws them; default seed 0.
        resume: a text file that keeps each point as soon as it is done; the same call goes on from it.
        workers: processes of this machine that share the points and this one's threads; model, criterion and data are
            sent to each once. Or an executor of `concurrent.futures`, which is sent them with each point, Dask's once.
        group: of processes started by torchrun, say, that share the points; all make this call with all the data, get
            the same result, and the first one writes the file.
        accuracy: (outputs, targets) of a batch to (hits, targets that count), or to the share of hits, which counts as
            much as the batch has units; default argmax over the class axis, where that can be known, see
            `class_targets.py`.
        progress: a bar with the time left; default on a terminal and in a notebook, else a line every 30 s.
        details: what else the result's `details` shall hold, such as {"normalize": "filter", "seed": 0}.
    Returns:
        Slice2D. A loss that is NaN or infinite stays so; accuracy is NaN where it cannot be known. `details` holds
        units and batch-norm policy, why there is no accuracy, seconds, and the estimate made before the walk.
    Raises:
        ValueError: if a direction is zero or does not fit, a range is empty or not found, there is no split, the
            file of resume= was written with other settings, or something cannot be sent to a worker.
        RuntimeError: if a worker fails or is killed.
    """
    plane = Plane(problem.vector(), {"d1": d1, "d2": d2}, problem.shards)
    surface = slice_evaluator(problem, plane, data, subset, generator, accuracy)
    xs, ys = axis("x", x, partial(find_range, surface, [0])), axis("y", y, partial(find_range, surface, [1]))
    points = [(across, up) for up in ys.tolist() for across in xs.tolist()]
    how = _execution(problem, resume, workers, group, progress)
    settings = {"x": xs.tolist(), "y": ys.tolist()}
    fields = slice_fields(surface, points, (len(ys), len(xs)), lambda: {**settings, **plane.settings()}, how, details)
    one, two = d1.double().cpu(), d2.double().cpu()
    norms = torch.stack([problem.space.norms(one), problem.space.norms(two)])
    return Slice2D(xs, ys, norms=norms, cosine=problem.space.inner(one, two) / norms.prod(), **fields)


def _execution(
    problem: Problem,
    resume: str | Path | None,
    workers: int | Executor,
    group: ProcessGroup | None,
    progress: bool | None,
) -> Execution:
    """How the points are gone through; of a sharded model by all of its processes together, the first one tells."""
    if problem.shards is None:
        return Execution(resume, workers, group, progress)
    require(
        resume is None and workers == 1 and group is None,
        "resume, workers and group must be left out for a sharded model, whose processes see each point together",
    )
    return Execution(progress=progress if problem.shards.rank == 0 else False)
