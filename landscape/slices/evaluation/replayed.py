"""Points that are replayed as one CUDA graph a split, where that is asked for: see `cuda_graphs.py`."""

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from landscape.autograd.cuda_graphs import CudaGraphs, Replayed
from landscape.problem import Problem
from landscape.problem.class_targets import ClassTargets
from landscape.problem.cost import FORWARD, charge
from landscape.problem.random_draws import seed_everything
from landscape.side_effects import global_state
from landscape.slices.evaluation.accuracy import Counting, Score
from landscape.slices.evaluation.evaluator import MEASURES, SliceEvaluator
from landscape.slices.evaluation.parametrisation import Buffers
from landscape.vectors import Vector


@dataclass(frozen=True, eq=False)
class ReplayedEvaluator(SliceEvaluator):
    """As `SliceEvaluator`.

    Args:
        graphs: what recordings are made with.
    """

    graphs: CudaGraphs = field(kw_only=True)
    _numbers: dict[str, Replayed] = field(init=False, default_factory=dict)
    _scores: dict[str, Score] = field(init=False, default_factory=dict)  # of the last call, for each batch's units

    def measure(self, w: Vector, buffers: Buffers) -> Tensor:
        """As `SplitEvaluator.measure`."""
        if buffers:
            self.graphs.failure = "each point has buffers of its own"
        if self.graphs.failure:
            return super().measure(w, buffers)
        with self.graphs.beside(), torch.no_grad():
            rows = [self._replayed(name, w) for name in self.splits]
        return torch.tensor(rows, dtype=torch.float64, device="cpu").view(-1, len(MEASURES)).T

    def _replayed(self, name: str, w: Vector) -> tuple[float, float, float, float]:
        replays = self.graphs.replays
        function = self._numbers.setdefault(name, Replayed(partial(self._called, name), self.graphs))
        *losses, hits, targets, loss = function(w)[0].cpu()
        units = self._scores[name].units
        if self.graphs.replays > replays:
            charge(sum(units) * FORWARD)
        return self.row(name, float(loss), Score(self.counting[name], hits, targets, units, losses), w.device)

    def _called(self, name: str, w: Vector) -> Tensor:
        """Losses of the batches, hits, targets and the mean loss, (1, B + 3) float64."""
        self._scores[name] = score = Score(self.counting[name], waits=False)
        loss = self.splits[name].mean(score, w, buffers={})
        found = [*score.losses, score.hits, score.targets, loss]
        return torch.stack([torch.as_tensor(n, dtype=torch.float64, device=w.device) for n in found])[None]


def replayed(evaluator: SliceEvaluator, graphs: CudaGraphs) -> ReplayedEvaluator:
    """The same with replays; it has been evaluated once, so that it is known which targets count."""
    splits = dict(evaluator.splits)
    for name, split in splits.items():
        if evaluator.shares:  # a subset is in memory, but not kept
            splits[name] = split.with_batches_kept()
        graphs.failure = graphs.failure or obstacle(splits[name], evaluator.counting[name])
    return ReplayedEvaluator(
        evaluator.problem,
        splits,
        evaluator.counting,
        evaluator.shares,
        parametrisation=evaluator.parametrisation,
        graphs=graphs,
    )


def obstacle(split: Problem, counting: Counting) -> str:
    """Why a split's points cannot be replayed, "" where nothing is known; one forward pass."""
    if split.batch_norm == "recompute":
        return "batch-norm statistics are those of each point"
    if split.reader.items is None:
        return "the data is too large to be kept on the device"
    if not isinstance(counting, ClassTargets):
        return "accuracy= is a function of Python"
    with split.batches(buffers={}) as batches, torch.no_grad():
        for batch in batches:
            seed_everything(batch.network.draws, 2 * batch.index)
            before = global_state()
            batch.evaluate(batch.w)
            traits = batch.placement.traits
            if traits.criterion_draws or global_state() != before:
                return "random numbers are drawn"
            if traits.changes_attributes or traits.writes_weights or traits.needs_derivatives:
                return "the forward pass changes its modules, or takes derivatives"
    return ""
