"""How many units a batch counts for, where the user says nothing: its targets, or what its criterion's mean is over.

Cross entropy with class weights is the mean over Σ weight[target], and without the targets that it ignores; batches
are put together by the same number.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.checks import require
from landscape.problem.batches import target_count


@dataclass(frozen=True, eq=False)
class CrossEntropyUnits:
    """Σ weight[t] over the targets t that count, in units of samples where all of them do and no class has a weight."""

    ignore_index: int
    class_weight: Tensor | None

    def __call__(self, inputs: Any, targets: Any) -> float:
        if not _classes(targets):
            return target_count(inputs, targets)
        return float(self.of_each(targets).sum())

    def of_each(self, targets: Tensor) -> Tensor:
        """Units of each sample, (B,) float64."""
        valid = targets != self.ignore_index
        units = valid.double()
        if self.class_weight is not None:
            classes = torch.where(valid, targets, torch.zeros_like(targets))
            units = units * self.class_weight.detach().to(targets.device).double()[classes]
        return units.flatten(1).mean(1) if units.ndim > 1 else units


def _classes(targets: Any) -> bool:
    return isinstance(targets, Tensor) and targets.ndim > 0 and not targets.is_floating_point()


def default_units(criterion: Any) -> Any:
    """(inputs, targets) to units, for this criterion."""
    function, settings = (criterion.func, criterion.keywords) if isinstance(criterion, partial) else (criterion, {})
    if isinstance(criterion, nn.CrossEntropyLoss | nn.NLLLoss):
        settings = {"ignore_index": criterion.ignore_index, "weight": criterion.weight}
    elif function not in (F.cross_entropy, F.nll_loss):
        return target_count
    return CrossEntropyUnits(settings.get("ignore_index", -100), settings.get("weight"))


def require_mean(criterion: Any) -> None:
    """Raises ValueError for a criterion of torch's that is known not to be a mean."""
    settings = criterion.keywords if isinstance(criterion, partial) else {}
    require(
        "sum" not in (settings.get("reduction"), getattr(criterion, "reduction", None)),
        "criterion must be the mean over the batch's units, got reduction='sum'; use reduction='mean'",
    )
