"""How many targets of a batch a classifier hits: argmax over the class axis where that is known, or a user's count."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import Any

import torch
from torch import Tensor

from landscape.checks import require
from landscape.problem import Problem
from landscape.problem.batch import Batch
from landscape.problem.class_targets import NO_CLASSES, ClassTargets
from landscape.processes import ProcessGroup, summed

Accuracy = Callable[[Any, Any], Any]  # (outputs, targets) to (hits, targets that count), or to the share of hits
Counting = Accuracy | ClassTargets


def counting(problem: Problem, accuracy: Accuracy | None) -> Counting:
    """How hits are counted: by the user's function, or by what can be known of the targets."""
    return ClassTargets(problem.criterion) if accuracy is None else accuracy


def uncounted(_outputs: Any, _targets: Any) -> float:
    """For those who ask for no accuracy."""
    return nan


def name_of(how: Counting) -> str | None:
    """The user's function in a log's settings; None where there is none."""
    return None if isinstance(how, ClassTargets) else getattr(how, "__qualname__", type(how).__qualname__)


def reasons(how: Mapping[str, Counting], losses: Tensor, accuracies: Tensor) -> dict[str, str] | None:
    """Why the accuracies (splits,), found with these losses, are NaN, by split; None where none is."""
    rows = zip(how.items(), losses.tolist(), accuracies.tolist(), strict=True)
    return {name: _reason(own) for (name, own), loss, found in rows if found != found and loss == loss} or None


def _reason(how: Counting) -> str:
    if not isinstance(how, ClassTargets):
        return "accuracy= gives NaN"
    if how.axis is None:
        return how.reason
    return f"{NO_CLASSES}, from 0 to C - 1 but for what the criterion is known to ignore; pass accuracy="


@dataclass
class Score:
    """Hits, targets and losses over the batches of one pass. A loss term that keeps them: `problem.mean(score)`."""

    counting: Counting
    hits: Tensor | float = 0.0
    targets: Tensor | float = 0.0
    units: list[float] = field(default_factory=list)  # of each batch
    losses: list[Tensor] = field(default_factory=list)
    waits: bool = True  # for the device, to spare it work where the loss is finite

    def __call__(self, batch: Batch) -> Tensor:
        """The batch's mean loss, (); NaN and infinity stay as they are."""
        loss, outputs = batch.evaluate(batch.w)
        if isinstance(self.counting, ClassTargets):
            self.counting.look(outputs, batch.targets)
            hits, targets = self.counting.count_hits(outputs, batch.targets, self.waits and isfinite(loss))
        else:
            hits, targets = _counted(self.counting(outputs, batch.targets), batch.units)
        self.hits, self.targets = self.hits + hits, self.targets + targets
        self.units.append(batch.units)
        self.losses.append(loss.detach())
        return loss

    @property
    def accuracy(self) -> float:
        """Hits per target, 0..1; NaN where it is not known, or a prediction is NaN."""
        if isinstance(self.counting, ClassTargets) and self.counting.axis is None:
            return float("nan")
        return float(self.hits) / float(self.targets) if float(self.targets) else float("nan")

    def added_up(self, group: ProcessGroup | None, device: torch.device) -> float:
        """Count what all processes have seen, of which each has its shard of the data; returns the units."""
        own = torch.tensor([float(self.hits), float(self.targets), sum(self.units)], dtype=torch.float64, device="cpu")
        total, _ = summed(lambda: (own, 1.0), own.shape, device, group)
        self.hits, self.targets, units = total.tolist()
        return units


def scored(problem: Problem, how: Counting, w: Tensor, buffers: Mapping[str, Tensor]) -> tuple[float, Score]:
    """Mean loss at w with these buffers, NaN and infinity as they are, and what else its pass has met."""
    score = Score(how)
    with torch.no_grad():
        loss = problem.mean(score, w, buffers=dict(buffers))
    if isinstance(how, ClassTargets):
        how.settle()
    return float(loss), score


def _counted(found: Any, units: float) -> tuple[float, float]:
    """Hits and targets from what the user's function gives of a batch."""
    try:
        pair = isinstance(found, tuple | list)
        hits, targets = (float(number) for number in found) if pair else (float(found) * units, units)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"accuracy must give (hits, counted) or a share of hits, got {found!r}") from error
    require(not (hits < 0 or hits > targets), f"accuracy must give a share of hits in [0, 1], got {hits / units:g}")
    return hits, targets
