"""The fields of slices: what is measured at all points, and what the reader should know of it."""

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

from landscape.autograd.cuda_graphs import cuda_graphs
from landscape.checks import require
from landscape.processes import agree
from landscape.slices.evaluation.accuracy import name_of, reasons
from landscape.slices.evaluation.engine import Execution, Points, evaluate_points
from landscape.slices.evaluation.evaluator import MEASURES, SliceEvaluator
from landscape.slices.evaluation.replayed import replayed


def slice_fields(
    evaluator: SliceEvaluator,
    points: Points,
    shape: Sequence[int],
    settings: Callable[[], Mapping[str, Any]],
    how: Execution,
    details: Mapping[str, Any] | None = None,
) -> Any:
    """The fields that all slices share: loss, accuracy, loss_stderr and details, tensors of `shape`.

    Args:
        evaluator: what is measured.
        points: coordinates.
        shape: of the points in the result.
        settings: gives what decides the numbers besides the evaluator, as JSON holds it.
        how: processes, resume, progress.
        details: what else the result's details shall hold.
    """
    began = perf_counter()
    centre = evaluator.at([0.0] * evaluator.parametrisation.axes)
    pace = perf_counter() - began
    if how.group is not None:
        corner, _ = evaluator.parametrisation.at([1.0] * evaluator.parametrisation.axes)
        require(
            agree(corner.norm().reshape(1), how.group),
            "the processes' weights and directions must be equal, got different ones; use generators of the same seed",
        )
    graphs = cuda_graphs(evaluator.problem.device) if how.workers == 1 else None
    values, estimate = evaluate_points(
        evaluator if graphs is None else replayed(evaluator, graphs),
        points,
        how,
        lambda: ({**_settings(evaluator), **settings()}, centre[0]),
        pace=pace,
    )
    named = {
        what: {name: values[:, i, k].reshape(*shape).clone() for k, name in enumerate(evaluator.splits)}
        for i, what in enumerate(MEASURES)
    }
    units = {name: float(centre[3, k]) for k, name in enumerate(evaluator.splits)}
    return {
        "loss": named["loss"],
        "accuracy": named["accuracy"],
        "loss_stderr": named["loss_stderr"] if evaluator.shares else {},
        "details": {
            "units": {name: int(n) if n.is_integer() else n for name, n in units.items()},
            "batch_norm": evaluator.problem.batch_norm,
            "subset": dict(evaluator.shares) or None,
            "no_accuracy": reasons(evaluator.counting, centre[0], centre[1]),
            "seconds": perf_counter() - began,
            "estimated_seconds": estimate,
            **({"cuda_graphs": graphs.said()} if graphs is not None else {}),
            **(details or {}),
        },
    }


def _settings(evaluator: SliceEvaluator) -> dict[str, Any]:
    shares = {"subset": dict(evaluator.shares)} if evaluator.shares else {}
    named = {name_of(how) for how in evaluator.counting.values()} - {None}  # one function for all splits
    counted = {"accuracy": named.pop()} if named else {}
    return {"splits": list(evaluator.splits), "batch_norm": evaluator.problem.batch_norm, **shares, **counted}
