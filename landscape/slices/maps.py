"""What derivatives say on a plane through the weights: how convex the loss is there, and how steep.

A contour plot shows the curvature along two directions out of P. The map of |λmin / λmax|, the ends of the spectrum of
the whole Hessian at each point, tells whether what looks convex in the plane is so in all directions.
Source: Li et al. 2018, section 6, arXiv:1712.09913.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from landscape.checks import integer_in, positive
from landscape.curvature import hessian
from landscape.linalg import spectrum_ends
from landscape.problem import Problem
from landscape.slices.evaluation.axis import Range, axis
from landscape.slices.evaluation.engine import Execution, Point, evaluate_points
from landscape.slices.evaluation.parametrisation import Plane
from landscape.storage.results import Map2D
from landscape.vectors import Vector

PARTS = ("lambda_min", "lambda_max", "residual_min", "residual_max", "matvecs")


def convexity_map(
    problem: Problem,
    d1: Tensor,
    d2: Tensor,
    x: Range = (-1.0, 1.0, 11),
    y: Range = (-1.0, 1.0, 11),
    *,
    tol: float = 1e-2,
    max_matvecs: int = 1000,
    resume: str | Path | None = None,
    workers: int | Executor = 1,
    progress: bool | None = None,
) -> Map2D:
    """|λmin / λmax| of the Hessian on w + x d1 + y d2, w the model's own weights.

    How to read it: near 0 there is next to no negative curvature beside the positive one, so a basin that looks convex
    in the plane is so in all directions; at 1 the loss bends down as strongly as up, a saddle; above 1 down prevails.
    The ratio does not tell the sign of λmin: where that is positive (more data than parameters) the Hessian is positive
    definite and the ratio the inverse of its condition number; `parts["lambda_min"]` tells. Where λmax <= 0 nothing
    bends up and the value is infinite; where the Hessian is 0 it is NaN.

    Args:
        problem: the scalar function.
        d1: (P,), drawn to the right.
        d2: (P,), drawn upwards.
        x: first and last point along d1, and how many. A point takes tens of Hessian products.
        y: the same along d2.
        tol: of both eigenvalues, relative to the spectrum, as `spectrum_ends` has it.
        max_matvecs: products at most for each of the two; what they do not reach shows in the errors.
        resume: a text file that keeps each point as soon as it is done; the same call goes on from it.
        workers: processes that share the points, see `slice_2d`.
        progress: show a bar with the time left; default on a terminal and in a notebook, else a line every 30 s.
    Returns:
        Map2D with PARTS in `parts`. Each eigenvalue is within its residual of one of the Hessian's, and `errors` is
        what that means for the ratio: (r_min + |λmin / λmax| r_max) / (λmax − r_max). NaN where loss or Hessian is not
        finite.
    Raises:
        ValueError: if an argument is out of range, or the state in resume= was written with other settings.
    Source: Li et al. 2018, section 6, arXiv:1712.09913.
    """
    positive("tol", tol)
    integer_in("max_matvecs", max_matvecs, 1)

    settings = {"what": "convexity", "tol": tol, "max_matvecs": max_matvecs}
    xs, ys = axis("x", x), axis("y", y)
    ends = partial(_ends, tol=tol, max_matvecs=max_matvecs)
    how = Execution(resume, workers, progress=progress)
    numbers, details = _map(problem, (d1, d2), (xs, ys), ends, len(PARTS), settings, how)
    values, errors = _ratio(*numbers[:4])
    details |= {"tol": tol, "matvecs": int(numbers[4].nansum())}
    return Map2D(xs, ys, values, errors, "|λmin / λmax|", details, dict(zip(PARTS, numbers, strict=True)))


def gradient_norm_map(
    problem: Problem,
    d1: Tensor,
    d2: Tensor,
    x: Range = (-1.0, 1.0, 51),
    y: Range = (-1.0, 1.0, 51),
    *,
    resume: str | Path | None = None,
    workers: int | Executor = 1,
    progress: bool | None = None,
) -> Map2D:
    """|∇L| on w + x d1 + y d2, of the whole gradient and not of its part in the plane: 0 at stationary points only.

    Args:
        problem, d1, d2, x, y, resume, workers, progress: as in `convexity_map`.
    Returns:
        Map2D with errors 0: exact but for rounding. NaN where the loss is not finite.
    Raises:
        ValueError: if an argument is out of range, or the state in resume= was written with other settings.
    """
    xs, ys = axis("x", x), axis("y", y)
    how, settings = Execution(resume, workers, progress=progress), {"what": "gradient norm"}
    (values,), details = _map(problem, (d1, d2), (xs, ys), _gradient_norm, 1, settings, how)
    return Map2D(xs, ys, values, torch.zeros_like(values).where(~values.isnan(), torch.nan), "|∇L|", details)


def _ends(problem: Problem, w: Vector, *, tol: float, max_matvecs: int) -> list[float]:
    """PARTS at w; the neighbour's vectors as starts doubled the products: they must outlast more."""
    pairs = spectrum_ends(hessian(problem, w), tol=tol, max_matvecs=max_matvecs)
    return [*pairs.values.tolist(), *pairs.residuals.tolist(), pairs.matvecs]


def _gradient_norm(problem: Problem, w: Vector) -> list[float]:
    return [float(problem.gradient(w).double().norm())]


@dataclass(frozen=True, eq=False)
class _MapEvaluator:
    """`count` numbers that derivatives give at a point of a plane; NaN where they are not finite."""

    problem: Problem
    plane: Plane
    numbers: Callable[[Problem, Vector], list[float]]
    count: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.count,)

    def at(self, point: Point) -> Tensor:
        w, _ = self.plane.at(point)
        try:
            return torch.tensor(self.numbers(self.problem, w), dtype=torch.float64, device="cpu")
        except ValueError:
            self.loss(w)  # what is wrong with the data or the criterion raises as anywhere
            return torch.full((self.count,), torch.nan, dtype=torch.float64, device="cpu")

    def loss(self, w: Vector) -> Tensor:
        """(1,), NaN and infinity as they are."""
        with torch.no_grad():
            return self.problem.mean(lambda batch: batch.evaluate(batch.w)[0], w).double().cpu()[None]


def _map(
    problem: Problem,
    directions: tuple[Tensor, Tensor],
    axes: tuple[Tensor, Tensor],
    numbers: Callable[[Problem, Vector], list[float]],
    count: int,
    settings: Mapping[str, Any],
    how: Execution,
) -> tuple[Tensor, dict[str, Any]]:
    """numbers(problem, w + x d1 + y d2) at all points: (count, ny, nx), and the details of a map."""
    (d1, d2), (xs, ys), started = directions, axes, perf_counter()
    plane = Plane(problem.require_whole("a map").vector(), {"d1": d1, "d2": d2})
    evaluator = _MapEvaluator(problem, plane, numbers, count)
    ranges = {"x": xs.tolist(), "y": ys.tolist(), "batch_norm": problem.batch_norm}
    points = [(x, y) for y in ys.tolist() for x in xs.tolist()]
    values, _ = evaluate_points(
        evaluator, points, how, lambda: ({**settings, **ranges, **plane.settings()}, evaluator.loss(plane.w))
    )
    norms = [float(d1.norm()), float(d2.norm())]
    return values.T.reshape(count, len(ys), len(xs)), {
        "batch_norm": problem.batch_norm,
        "norms": norms,
        "cosine": float(d1.double() @ d2.double()) / (norms[0] * norms[1]),
        "seconds": perf_counter() - started,
    }


def _ratio(low: Tensor, high: Tensor, low_error: Tensor, high_error: Tensor) -> tuple[Tensor, Tensor]:
    """|λmin / λmax| and how far off it may be: λmin anywhere within its error, λmax the same."""
    ratio = (low / high).abs().where(high > 0, torch.inf)
    ratio = ratio.where(~high.isnan() & ((low != 0) | (high != 0)), torch.nan)
    sure = high - high_error
    errors = ((low_error + ratio * high_error) / sure).where(sure > 0, torch.inf)
    return ratio, errors.where(~ratio.isnan(), torch.nan)
