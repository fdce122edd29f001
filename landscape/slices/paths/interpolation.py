"""Loss and accuracy on the straight line between two networks: (1 − x) w + x w'.

Source: Goodfellow et al. 2015, arXiv:1412.6544; with the range of Li et al. 2018, arXiv:1712.09913.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from landscape.checks import one_of, require
from landscape.problem import Problem
from landscape.processes import ProcessGroup
from landscape.slices.directions.between_models import Weights, vector_of
from landscape.slices.evaluation.accuracy import Accuracy
from landscape.slices.evaluation.axis import Range, axis
from landscape.slices.evaluation.engine import Execution
from landscape.slices.evaluation.evaluator import slice_evaluator
from landscape.slices.evaluation.fields import slice_fields
from landscape.slices.evaluation.parametrisation import Buffers
from landscape.storage.array_checkpoint import fingerprint
from landscape.storage.results import Slice1D
from landscape.vectors import Vector

BATCH_NORM = ("interpolate", "recompute", "eval", "batch")


def interpolate(
    problem: Problem,
    other: Weights,
    x: Range = (-0.5, 1.5, 401),
    data: Mapping[str, Iterable[Any]] | None = None,
    *,
    batch_norm: str | None = None,
    subset: int | None = None,
    generator: torch.Generator | None = None,
    resume: str | Path | None = None,
    workers: int | Executor = 1,
    group: ProcessGroup | None = None,
    accuracy: Accuracy | None = None,
    progress: bool | None = None,
    details: Mapping[str, Any] | None = None,
) -> Slice1D:
    """Loss and accuracy along (1 - x) w + x w', w the model's own weights: to the bit w at x = 0 and w' at x = 1.

    Args:
        problem: the scalar function of the first network.
        other: the second network, its state dict, or its weights as a vector (P,).
        x: first and last point, and how many.
        data: split name to data; default the problem's own under "train".
        batch_norm: "interpolate" moves the buffers with the weights, running variances at least 0, and takes integer
            buffers from the nearer network; "recompute" takes the statistics anew at each point from the problem's
            data; "eval" leaves the first network's buffers everywhere; "batch" uses each batch's own statistics.
            Default "interpolate" where the problem's own policy is "eval" and `other` has buffers, else that policy.
        subset: see `slice_2d`, as the arguments after it.
    Returns:
        Slice1D.
    Raises:
        ValueError: if `other` lacks a parameter, or has another shape, or differs in one that the problem holds fixed.
    """
    one_of("batch_norm", batch_norm, (*BATCH_NORM, None))
    xs, segment = axis("x", x), _segment(problem, other)
    if batch_norm is None:
        batch_norm = "interpolate" if problem.batch_norm == "eval" and segment.buffers else problem.batch_norm
    if batch_norm == "interpolate":
        require(
            bool(segment.buffers) or not dict(problem.model.named_buffers()),
            "batch_norm='interpolate' needs the buffers of both networks, got none; pass a model or its state dict",
        )
        policy = "eval"
    else:
        policy, segment = batch_norm, segment if batch_norm != "eval" else replace(segment, buffers={})
    line = slice_evaluator(problem.with_batch_norm(policy), segment, data, subset, generator, accuracy)
    how = Execution(resume, workers, group, progress)
    fields = slice_fields(
        line,
        [(value,) for value in xs.tolist()],
        (len(xs),),
        lambda: {"x": xs.tolist(), **segment.settings()},
        how,
        {"batch_norm": batch_norm, **(details or {})},
    )
    return Slice1D(xs, **fields)


@dataclass(frozen=True, eq=False)
class Segment:
    """The line from one network, x = 0, to another one, x = 1."""

    first: Vector
    last: Vector
    buffers: Mapping[str, tuple[Tensor, Tensor]]  # name to those of both; what is not named stays as it is

    @property
    def axes(self) -> int:
        return 1

    def at(self, point: Sequence[float]) -> tuple[Vector, Buffers]:
        (x,) = point
        return torch.lerp(self.first, self.last, x), {
            name: _between(name, *ends, x) for name, ends in self.buffers.items()
        }

    def settings(self) -> dict[str, str]:
        ends = {"weights": self.first, "other": self.last}
        ends |= {f"{name} {i}": end for name, pair in self.buffers.items() for i, end in enumerate(pair)}
        return {name: fingerprint(end) for name, end in ends.items()}


def _between(name: str, first: Tensor, last: Tensor, x: float) -> Tensor:
    """A buffer at x; beyond the ends a variance would fall below 0."""
    if not first.is_floating_point():
        return first if x < 0.5 else last
    buffer = torch.lerp(first, last, x)
    return buffer.clamp(min=0) if name.endswith("running_var") else buffer


def _segment(problem: Problem, other: Weights) -> Segment:
    w, model = problem.require_whole("an interpolation").vector(), problem.model
    if isinstance(other, Tensor):
        return Segment(w, vector_of(problem, other), {})
    if isinstance(other, nn.Module):
        other = dict(other.named_parameters(remove_duplicate=False)) | dict(other.named_buffers())
    found = {name: tensor.detach().to(w.device) for name, tensor in other.items()}
    for name, own in model.named_parameters():
        got = tuple(found[name].shape) if name in found else "none"
        require(got == tuple(own.shape), f"other must have a {name} of shape {tuple(own.shape)}, got {got}")
        require(
            name in problem.layout.names or torch.equal(found[name], own.detach()),
            f"other must differ only in parameters of the problem, got another {name}; choose it by parameters=",
        )
    buffers = {name: (own.detach().clone(), found[name]) for name, own in model.named_buffers() if name in found}
    return Segment(w, vector_of(problem, found), buffers)
