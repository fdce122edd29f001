"""How many units a batch counts for, where the user says nothing: its targets, or what its criterion's mean is over.

A mean over all entries (tokens, pixels) of batches whose sequences have unequal lengths counts entries, not sequences;
cross entropy with class weights is the mean over Σ weight[target], and without the targets that it ignores. Batches are
put together by the same number, in units of the first batch's samples: len(targets) where all are alike.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.checks import require
from landscape.problem.batches import target_count

Criteria = dict[type[nn.Module], Callable[..., Tensor]]  # the same one as a module and as a function
OVER_CLASSES: Criteria = {nn.CrossEntropyLoss: F.cross_entropy, nn.NLLLoss: F.nll_loss}
OVER_ENTRIES: Criteria = OVER_CLASSES | {
    nn.MSELoss: F.mse_loss,
    nn.L1Loss: F.l1_loss,
    nn.SmoothL1Loss: F.smooth_l1_loss,
    nn.HuberLoss: F.huber_loss,
    nn.BCELoss: F.binary_cross_entropy,
    nn.BCEWithLogitsLoss: F.binary_cross_entropy_with_logits,
    nn.PoissonNLLLoss: F.poisson_nll_loss,
    nn.SoftMarginLoss: F.soft_margin_loss,
    nn.KLDivLoss: F.kl_div,
}

IGNORED = -100


@dataclass(eq=False)
class DefaultUnits:
    """(inputs, targets) to Σ weight[t] over the entries t that count, divided by the entries of a sample.

    Args:
        over_entries: the criterion is known to be a mean over all entries of a batch that count.
        ignore_index, class_weight: of cross entropy and NLL; None for all others.
        entries: in a sample of the first batch, once it has been met; 1 to count entries, not samples.
    """

    over_entries: bool
    ignore_index: int | None = None
    class_weight: Tensor | None = None
    entries: float | None = None

    def __call__(self, inputs: Any, targets: Any) -> float:
        count = target_count(inputs, targets)
        if count == 0:
            return 0.0
        if self.ignore_index is not None and _classes(targets):
            return float(self.of_each(targets).sum())
        return count * self._size(targets)

    def of_each(self, targets: Tensor) -> Tensor:
        """Units of each sample, (B,) float64."""
        size = self._size(targets)
        if self.ignore_index is None or not _classes(targets):
            return torch.full((len(targets),), size, dtype=torch.float64, device=targets.device)
        valid = targets != self.ignore_index
        units = valid.double()
        if self.class_weight is not None:
            classes = torch.where(valid, targets, torch.zeros_like(targets))
            units = units * self.class_weight.detach().to(targets.device).double()[classes]
        return (units.flatten(1).mean(1) if units.ndim > 1 else units) * size

    def anew(self, *, by_entries: bool) -> "DefaultUnits":
        """The same rule for other data."""
        return replace(self, entries=1.0 if by_entries and self.over_entries else None)

    def _size(self, targets: Any) -> float:
        """Of one of these samples, in samples of the first batch."""
        here = _entries(targets) if self.over_entries else _valid_entries(targets)
        if self.entries is None:
            self.entries = here
        require(
            self.over_entries or here == self.entries,
            f"it is not known what the criterion's mean is over, where a sample of one batch has {self.entries:g} "
            f"targets that count and one of another {here:g}; pass weight=, (inputs, targets) to the units in a batch",
        )
        return here / self.entries if self.entries > 0 else 1.0


def _entries(targets: Any) -> float:
    """Entries of a sample."""
    strided = isinstance(targets, Tensor) and targets.layout == torch.strided and not targets.is_nested
    return targets.numel() / len(targets) if strided else 1.0


def _valid_entries(targets: Any) -> float:
    """Those of a sample that are not marked by the index which torch ignores by default."""
    if _classes(targets) and targets.layout == torch.strided and not targets.is_nested and targets.dtype != torch.bool:
        return float((targets != IGNORED).sum()) / len(targets)
    return _entries(targets)


def _classes(targets: Any) -> bool:
    return isinstance(targets, Tensor) and targets.ndim > 0 and not targets.is_floating_point()


def default_units(criterion: Any) -> Callable[[Any, Any], float]:
    """(inputs, targets) to units, for this criterion."""
    function, settings = (criterion.func, criterion.keywords) if isinstance(criterion, partial) else (criterion, {})
    over_entries, over_classes = function in OVER_ENTRIES.values(), function in OVER_CLASSES.values()
    if isinstance(criterion, nn.Module) and isinstance(criterion, tuple(OVER_ENTRIES)):
        over_entries, over_classes = _forward_of_torch(criterion), isinstance(criterion, tuple(OVER_CLASSES))
        settings = vars(criterion) | criterion._buffers
    if over_entries and settings.get("reduction") == "batchmean":  # of the Kullback-Leibler divergence
        return target_count
    if over_classes:
        return DefaultUnits(over_entries, settings.get("ignore_index", IGNORED), settings.get("weight"))
    return DefaultUnits(over_entries)


def _forward_of_torch(criterion: nn.Module) -> bool:
    """Whether a class derived from one of torch's has left its forward as it is."""
    return any(isinstance(criterion, kind) and type(criterion).forward is kind.forward for kind in OVER_ENTRIES)


def renewed(weight: Callable[[Any, Any], Any], *, by_entries: bool) -> Any:
    """What says a batch's units, for other data; among several processes, whose first batches differ, by entries."""
    return weight.anew(by_entries=by_entries) if isinstance(weight, DefaultUnits) else weight


def require_mean(criterion: Any) -> None:
    """Raises ValueError for a criterion of torch's that is known not to be a mean."""
    settings = criterion.keywords if isinstance(criterion, partial) else {}
    require(
        "sum" not in (settings.get("reduction"), getattr(criterion, "reduction", None)),
        "criterion must be the mean over the batch's units, got reduction='sum'; use reduction='mean'",
    )
