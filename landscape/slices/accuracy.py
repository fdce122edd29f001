"""How many targets of a batch a classifier hits: argmax over the class axis, where there is one."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from landscape.distributed import ProcessGroup, summed
from landscape.program import Batch

IGNORED = -100  # torch's `ignore_index`: padding and masked tokens


@dataclass
class Score:
    """Hits, targets and losses over the batches of one pass. A loss term that keeps them: `problem.mean(score)`."""

    hits: Tensor | float = 0.0
    targets: Tensor | float = 0.0
    units: list[float] = field(default_factory=list)  # of each batch
    losses: list[Tensor] = field(default_factory=list)

    def __call__(self, batch: Batch) -> Tensor:
        """The batch's mean loss, (); NaN and infinity stay as they are."""
        loss, outputs = batch.evaluate(batch.w)
        hits, targets = _hits(outputs, batch.targets)
        self.hits, self.targets = self.hits + hits, self.targets + targets
        self.units.append(batch.units)
        self.losses.append(loss.detach())
        return loss

    @property
    def accuracy(self) -> float:
        """Hits per target, 0..1; NaN without class targets, or where a prediction is NaN."""
        return float(self.hits) / float(self.targets) if float(self.targets) else float("nan")

    def added_up(self, group: ProcessGroup | None, device: torch.device) -> float:
        """Count what all processes have seen, of which each has its shard of the data; returns the units."""
        own = torch.tensor([float(self.hits), float(self.targets), sum(self.units)], dtype=torch.float64, device="cpu")
        total, _ = summed(lambda: (own, 1.0), own.shape, device, group)
        self.hits, self.targets, units = total.tolist()
        return units


def _hits(outputs: Any, targets: Any) -> tuple[Tensor | float, Tensor | float]:
    """Correct predictions and targets that count; NaN hits where the outputs are NaN or the targets no classes."""
    axis = _class_axis(outputs, targets)
    if axis is None:
        return float("nan"), 1.0
    top, predicted = outputs.max(axis)  # a NaN output is the maximum
    valid = targets != IGNORED
    hit = torch.where(top.isnan(), torch.nan, (predicted == targets).double())
    return torch.where(valid, hit, 0.0).sum(), valid.sum()


def _class_axis(outputs: Any, targets: Any) -> int | None:
    """The axis of `outputs` that runs over classes: 1 in (B, C, ...), as torch has it, or the last in (B, T, C)."""
    if not (isinstance(outputs, Tensor) and isinstance(targets, Tensor)) or outputs.ndim != targets.ndim + 1:
        return None
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool or targets.ndim == 0:
        return None
    for axis in (1, outputs.ndim - 1):
        classes = outputs.shape[axis]
        if classes > 1 and targets.shape == outputs.shape[:axis] + outputs.shape[axis + 1 :]:
            return axis
    return None
