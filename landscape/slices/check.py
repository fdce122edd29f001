"""Is my plot right? A finished plane against the network itself, walked once more, and looked at with a reader's eyes.

The star is compared with the loss that a plain loop over `model(inputs)` gives; both axes are walked again from their
far ends; the grid is searched for zigzag, gaps and a range that shows nothing; batch-norm layers for statistics that
belong to other weights.
"""

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from math import inf, isfinite, isnan, log
from typing import Any

import torch
from torch import Tensor

from landscape.checks import require, vector_like
from landscape.problem import Problem
from landscape.problem.batch_norm import batch_norm_layers
from landscape.problem.batches import to_device
from landscape.side_effects import random_state_kept, training_flags_kept
from landscape.slices.evaluation.accuracy import uncounted
from landscape.slices.evaluation.engine import Execution, evaluate_points
from landscape.slices.evaluation.evaluator import SliceEvaluator
from landscape.slices.evaluation.parametrisation import Plane
from landscape.slices.findings import (
    Finding,
    angle,
    finite,
    growth,
    lengths,
    lowest,
    nearest_to_zero,
    own_data,
    ruggedness,
)
from landscape.storage.results import Slice2D
from landscape.storage.results.shown import Lines, Shown

STDERRS = 5.0  # a loss on a subset may be so far from that on all the data
OTHER_DATA, OTHER_WEIGHTS = 1.3, 3.0  # size of batch-norm inputs by stored statistics, at the star and at the edge
TINY = 1e-5  # as in BatchNorm


@dataclass(frozen=True, repr=False)
class SliceCheck(Shown):
    """All findings; print it."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing would mislead a reader."""
        return all(finding.ok for finding in self.findings)

    def __str__(self) -> str:
        return "\n".join(f"{'ok  ' if own.ok else 'LOOK'}  {own.name:10}  {own.words}" for own in self.findings)

    def _facts(self) -> dict[str, Any]:
        return {"ok": self.ok}

    def _preview(self) -> Lines:
        return [
            ("", "looked at", "found"),
            *(("ok" if own.ok else "LOOK", own.name, own.words) for own in self.findings),
        ]


def check_slice(
    problem: Problem, slice: Slice2D, d1: Tensor, d2: Tensor, data: Mapping[str, Iterable[Any]] | None = None
) -> SliceCheck:
    """Findings on a plane, each in words with what to do. Costs one row and one column of the grid.

    Args:
        problem: what the slice was made of.
        slice: of `slice_2d(problem, d1, d2, ...)`.
        d1: (P,), as then.
        d2: (P,), as then.
        data: as then.
    Raises:
        ValueError: if the directions do not fit, or the splits are not those of the slice.
    """
    splits = {"train": problem} if data is None else {name: problem.with_data(own) for name, own in data.items()}
    require(
        set(splits) == set(slice.loss), f"data must hold the splits {', '.join(slice.loss)}, got {', '.join(splits)}"
    )
    for name, direction in (("d1", d1), ("d2", d2)):
        vector_like(name, direction, problem.require_whole("check_slice").vector())
    first = next(iter(slice.loss))
    return SliceCheck(
        (
            *(_centre(own, slice, name) for name, own in splits.items()),
            *_walked_again(problem, splits, slice, d1, d2),
            *(ruggedness(slice, name) for name in splits),
            *(finite(slice, name) for name in splits),
            growth(slice, first),
            lowest(slice, first),
            angle(slice),
            lengths(slice),
            *([own_data(slice)] if len(splits) > 1 else []),
            _batch_norm(problem, slice, d1),
        )
    )


def _centre(problem: Problem, slice: Slice2D, split: str) -> Finding:
    """The star against a plain loop in the model's own eval mode."""
    row, column = nearest_to_zero(slice)
    if max(abs(float(slice.x[column])), abs(float(slice.y[row]))) > 1e-9:
        words = "the grid has no point at the network itself; take a symmetric range with an odd number of points"
        return Finding("centre", False, float("nan"), words)
    own, shown = _plain_loss(problem), float(slice.loss[split][row, column])
    allowed = _rounding(problem) * abs(own) + _sampling(slice, split, row, column)
    told = f"{split}: the model's own loss is {own:.6g}, the star's {shown:.6g}"
    if abs(own - shown) <= allowed:
        return Finding("centre", True, abs(own - shown), told)
    if problem.batch_norm != "eval":
        words = f"{told}, with batch_norm={problem.batch_norm!r}; say so in the caption"
        return Finding("centre", abs(own - shown) < 0.1 * abs(own), abs(own - shown), words)
    words = "the weights, the data or the criterion are others than in the slice; make it again"
    return Finding("centre", False, abs(own - shown), f"{told}; {words}")


def _plain_loss(problem: Problem) -> float:
    """Mean loss as anybody would compute it."""
    model, device = problem.model, problem.vector().device
    total = units = 0.0
    with torch.no_grad(), random_state_kept(*problem.reader.generators), training_flags_kept(model):
        model.eval()
        for item in problem.data:
            inputs, targets = (to_device(part, device) for part in problem.reader.split(item))
            weight = float(problem.weight(inputs, targets))
            if weight > 0:
                total += weight * float(problem.criterion(problem.forward(model, inputs), targets))
                units += weight
    return total / units


def _walked_again(
    problem: Problem, splits: Mapping[str, Problem], slice: Slice2D, d1: Tensor, d2: Tensor
) -> list[Finding]:
    """Both axes from their far ends, the network moved there anew for each point."""
    row, column = nearest_to_zero(slice)
    points = [(row, i) for i in reversed(range(len(slice.x)))] + [(j, column) for j in reversed(range(len(slice.y)))]
    plane = Plane(problem.vector(), {"d1": d1, "d2": d2})
    evaluator = SliceEvaluator(problem, splits, dict.fromkeys(splits, uncounted), parametrisation=plane)
    at = [(float(slice.x[i]), float(slice.y[j])) for j, i in points]
    values, _ = evaluate_points(evaluator, at, Execution(progress=False))
    excess = dict.fromkeys(splits, (0.0, 0.0))  # the largest difference, and by how much it is too large
    for (j, i), losses in zip(points, values[:, 0].tolist(), strict=True):
        for name, again in zip(splits, losses, strict=True):
            kept = float(slice.loss[name][j, i])
            off = _difference(again, kept)
            allowed = _rounding(problem) * abs(kept) + _sampling(slice, name, j, i)
            beyond = off - allowed if isfinite(off) else off
            excess[name] = max(excess[name][0], off), max(excess[name][1], beyond)
    return [_again(name, *found) for name, found in excess.items()]


def _again(split: str, off: float, beyond: float) -> Finding:
    if off == 0:
        return Finding("again", True, off, f"{split}: both axes walked again are the same, bit for bit")
    told = f"{split}: both axes walked again differ by up to {off:.2g}"
    if beyond <= 0:
        return Finding("again", True, off, f"{told}, which is rounding or the subset")
    words = "the slice is of other directions, weights or data, or the data changes between passes"
    return Finding("again", False, off, f"{told}; {words}: make it again from data without random transforms")


def _difference(again: float, kept: float) -> float:
    """|again − kept|; 0 where both are NaN or the same infinity, infinite where only one is."""
    if again == kept or (isnan(again) and isnan(kept)):
        return 0.0
    return abs(again - kept) if isfinite(again) and isfinite(kept) else inf


def _batch_norm(problem: Problem, slice: Slice2D, d1: Tensor) -> Finding:
    """Whether the inputs of batch-norm layers are those of the stored statistics, at the star and at the edge."""
    if not batch_norm_layers(problem.model):
        return Finding("batchnorm", True, 0.0, "no layers with stored statistics")
    if problem.batch_norm != "eval":
        return Finding("batchnorm", True, 0.0, f"statistics are not the stored ones: batch_norm={problem.batch_norm!r}")
    w = problem.vector()
    layer, here = _misfit(problem, w)
    if not 1 / OTHER_DATA < here < OTHER_DATA:
        words = f"at the star the inputs of {layer} are {here:.2g} times the size that its stored statistics have"
        return Finding("batchnorm", False, here, f"{words}, which belong to other weights or data; recompute them")
    layer, there = _misfit(problem, w + float(slice.x[-1]) * d1)
    told = f"at the edge the inputs of {layer} are {there:.2g} times the size that its stored statistics have"
    if not 1 / OTHER_WEIGHTS < there < OTHER_WEIGHTS:
        return Finding("batchnorm", False, there, f"{told}: a part of the rise; compare with batch_norm='recompute'")
    return Finding("batchnorm", True, there, told)


def _misfit(problem: Problem, w: Tensor) -> tuple[str, float]:
    """The layer whose inputs at w fit its stored mean μ and variance σ² least, and √(E(h − μ)² / σ²), 1 for a fit.

    The median over channels; each layer is met with its own inputs normalised by the batch.
    """
    pooled = copy(problem)
    pooled.batch_norm = "recompute"
    found, stored = pooled.statistics(w), dict(problem.model.named_buffers())
    sizes = {}
    for name in batch_norm_layers(problem.model):
        mean, var = (f"{name}.running_{kind}".removeprefix(".") for kind in ("mean", "var"))
        if mean in found:
            moved = (found[mean] - stored[mean]).square()
            sizes[name or "the network"] = float(((found[var] + moved) / (stored[var] + TINY)).sqrt().median())
    worst = max(sizes, key=lambda name: abs(log(max(sizes[name], TINY))))
    return worst, sizes[worst]


def _rounding(problem: Problem) -> float:
    """The relative difference that another order of the same sums may make."""
    dtype = problem.vector().dtype
    return float(torch.finfo(dtype).eps ** 0.5)


def _sampling(slice: Slice2D, split: str, row: int, column: int) -> float:
    """What a fixed subset may add."""
    stderr = slice.loss_stderr.get(split)
    return 0.0 if stderr is None else STDERRS * float(stderr[row, column])
