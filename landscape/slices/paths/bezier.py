"""Curves of low loss between two networks: a quadratic Bezier curve, or a chain of two lines, with a trained bend.

φ(t) = (1 − t)² w_1 + 2 t (1 − t) θ + t² w_2. The bend θ minimises E_t L(φ(t)), t ~ U(0, 1): each step draws a t for a
batch and follows ∂L/∂θ = 2 t (1 − t) ∇L(φ(t)). Batch norm uses the batch's statistics in training; for evaluation they
are recomputed at each t, for those of either end belong to no network between.
Source: Garipov et al. 2018, "Loss surfaces, mode connectivity, and fast ensembling of DNNs", section 3,
arXiv:1802.10026.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from landscape.checks import integer_in, one_of, positive, require
from landscape.problem import Problem
from landscape.problem.batch import Batch, gradient_of
from landscape.problem.batch_norm import batch_norm_layers
from landscape.processes.progress import progress_bar
from landscape.side_effects import derivatives_on, random_source, random_state_kept
from landscape.slices.directions.between_models import Weights, vector_of
from landscape.slices.evaluation.accuracy import Accuracy, counting
from landscape.slices.evaluation.engine import Execution, Point
from landscape.slices.evaluation.evaluator import SliceEvaluator, splits_of
from landscape.slices.evaluation.fields import slice_fields
from landscape.slices.evaluation.parametrisation import Buffers
from landscape.storage.array_checkpoint import ArrayCheckpoint, fingerprint
from landscape.storage.results import BezierPath, Slice1D
from landscape.vectors import Vector

KINDS = ("bezier", "chain")


def straight_path(problem: Problem, end: Weights) -> BezierPath:
    """The straight line from the problem's network to another one: the curve whose bend is half-way.

    Args:
        problem: its network is the start; its data is not read.
        end: a network, its state dict or a vector, see `direction_to`.
    Raises:
        ValueError: if `end` does not fit.
    """
    first, last = problem.require_whole("a path").vector(), vector_of(problem, end)
    return BezierPath(first, (first + last) / 2, last)


def train_path(
    problem: Problem,
    end: Weights,
    *,
    kind: str = "bezier",
    epochs: int = 30,
    lr: float = 0.05,
    momentum: float = 0.9,
    generator: torch.Generator | None = None,
    resume: str | Path | None = None,
    progress: bool | None = None,
) -> BezierPath:
    """Train the bend of a curve between two networks, which stay as they are.

    Args:
        problem: the scalar function; its network is the start, its batches are the steps. Dropout is off.
        end: another network, its state dict or a vector, see `direction_to`.
        kind: "bezier", or "chain" of two lines that meet in the bend.
        epochs: passes over the problem's data.
        lr: of SGD; constant over the first half, then falling linearly to 1 %. As high as the ends were trained with.
        momentum: in [0, 1).
        generator: of t, and of the order where the data shuffles; default seed 0.
        resume: an .npz file from which the same call goes on; removed at the end.
        progress: show a bar; default on a terminal and in a notebook, else a line every 30 s.
    Returns:
        BezierPath from the problem's network to `end`.
    Raises:
        ValueError: if an argument is out of range, `end` does not fit, the loss is not finite or resume= of other work.
    Source: Garipov et al. 2018, section 3, arXiv:1802.10026.
    """
    one_of("kind", kind, KINDS)
    integer_in("epochs", epochs, 1)
    positive("lr", lr)
    require(0 <= momentum < 1, f"momentum must be in [0, 1), got {momentum!r}")
    problem.require_whole("a path")
    require(problem.process_group is None, "a path is trained by one process; use problem.with_processes(None)")
    source = random_source(generator)
    with derivatives_on():  # tensors made under inference_mode could not be changed in place
        path = replace(straight_path(problem, end), kind=kind)
        state = {"bend": path.bend, "velocity": torch.zeros_like(path.bend), "epoch": torch.tensor(0, device="cpu")}
    settings = {"kind": kind, "epochs": epochs, "lr": lr, "momentum": momentum}
    bits = {"start": path.start, "end": path.end, "generator": source.get_state()}
    checkpoint = ArrayCheckpoint(resume, {**settings, **{name: fingerprint(tensor) for name, tensor in bits.items()}})
    stored = checkpoint.load()
    if stored is not None:
        source.set_state(stored.pop("generator"))
        for name, tensor in stored.items():
            state[name].copy_(tensor)
    done = int(state["epoch"])
    with progress_bar(epochs, initial=done, unit="epoch", progress=progress) as bar:
        for epoch in range(done, epochs):
            rate = lr * min(1.0, max(0.01, 2 - 2 * epoch / epochs))
            loss = _epoch(problem.with_batch_norm("batch"), path, state["velocity"], rate, momentum, source)
            state["epoch"] += 1
            checkpoint.save_if_due(lambda: {**state, "generator": source.get_state()})
            bar.set_postfix(loss=f"{loss:.3g}")
            bar.update()
    checkpoint.close()
    return path


def path_losses(
    problem: Problem,
    path: BezierPath,
    points: int = 61,
    data: Mapping[str, Iterable[Any]] | None = None,
    *,
    accuracy: Accuracy | None = None,
    progress: bool | None = None,
) -> Slice1D:
    """Loss and accuracy along a curve.

    Args:
        problem: the scalar function. Where its network has batch norm, the statistics are recomputed from its data at
            each point, unless its policy is "batch".
        path: of `train_path` or `straight_path`.
        points: evenly spaced over t in [0, 1], at least 2.
        data: split name to data as `Problem` takes it; default the problem's own under "train".
        accuracy: see `slice_2d`.
        progress: show a bar with the time left; default on a terminal and in a notebook, else a line every 30 s.
    Returns:
        Slice1D with x = t. A loss that is NaN or infinite stays so.
    Raises:
        ValueError: if there are fewer than 2 points, or no split.
    """
    integer_in("points", points, 2)
    problem.require_whole("a path")
    if batch_norm_layers(problem.model) and problem.batch_norm == "eval":
        problem = problem.with_batch_norm("recompute")
    splits = splits_of(problem, data)
    ts = torch.linspace(0, 1, points, dtype=torch.float64, device="cpu")
    how = {name: counting(split, accuracy) for name, split in splits.items()}
    line = SliceEvaluator(problem, splits, how, parametrisation=_Curve(path))
    fields = slice_fields(line, [(t,) for t in ts.tolist()], (points,), dict, Execution(progress=progress))
    return Slice1D(ts, **fields)


@dataclass(frozen=True, eq=False)
class _Curve:
    """The networks of a path by t."""

    path: BezierPath
    axes: int = 1

    def at(self, point: Point) -> tuple[Vector, Buffers]:
        return self.path.at(point[0]), {}


def _epoch(
    problem: Problem, path: BezierPath, velocity: Tensor, lr: float, momentum: float, source: torch.Generator
) -> float:
    """One step of the bend a batch, in place; the mean loss met."""

    def step(batch: Batch) -> Tensor:
        t = float(torch.rand((), generator=source, dtype=torch.float64, device=source.device))
        w = path.at(t).requires_grad_()
        loss = batch.loss(w)
        velocity.mul_(momentum).add_(path.weights(t)[1] * gradient_of(loss, w))
        path.bend.sub_(lr * velocity)
        return loss

    order = int(torch.randint(2**31, (), generator=source, device=source.device))
    with derivatives_on(), random_state_kept(*problem.reader.generators):
        for shuffler in (torch.default_generator, *problem.reader.generators):
            shuffler.manual_seed(order)
        return float(problem.with_draws(problem.reader.draws).mean(step))  # each epoch's order may be another one
