"""Which class each output of a batch is to name, as far as outputs, targets and criterion tell.

Of outputs (B, C, ...), as torch has them, or (B, ..., C) and integer targets of that shape without the class axis it
must be known which axis it is, which targets are ignored, and that output i belongs to target i, which is not so where
a criterion shifts them (next-token losses). Cross entropy and NLL of torch say so themselves. Of another criterion the
gradient in the outputs does, where all are 1 / C: along each output it is least at the class that is wanted, and 0
where the target is ignored. Nothing is known of a criterion for which that is not so: better no accuracy than a wrong
one. An exception are outputs (B, C) of a criterion without a gradient, which leave no other reading.
"""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.problem.batch import Criterion
from landscape.problem.batches import shapes
from landscape.problem.hidden_states import HiddenStates, InPieces
from landscape.side_effects import derivatives_on

AXES = (1, -1)
NOWHERE, MANY = -1, -2
IGNORED = -100  # torch's `ignore_index`: padding and masked tokens
NO_CLASSES = "the targets are no classes: integers, one for each output along the class axis"


class ClassTargets:
    """What a criterion and the batches met so far tell of the targets; nothing is learned any more once it is settled.

    Args:
        criterion: (outputs, targets) to the loss.
    """

    def __init__(self, criterion: Criterion) -> None:
        ignored = _ignored_by_torch(criterion)
        self.settled = self._of_torch = ignored is not None
        self.reason = NO_CLASSES  # why there is no axis
        self._criterion = criterion
        self._axes = {1} if self.settled else set(AXES)  # that fit all batches so far
        self._wanted: dict[int, set[int]] = {axis: set() for axis in AXES}
        self._ignored = {axis: set() if ignored is None else {ignored} for axis in AXES}

    @property
    def axis(self) -> int | None:
        """Of the outputs that runs over classes, 1 or -1; None where that is not known."""
        return AXES[0] if AXES[0] in self._axes else AXES[1] if AXES[1] in self._axes else None

    @property
    def ignored(self) -> set[int]:
        """Targets that do not count."""
        found = set() if self.axis is None else self._ignored[self.axis]
        return found if self.axis is None or not found & self._wanted[self.axis] else set()  # left out by other marks

    def look(self, outputs: Any, targets: Any) -> None:
        """Learn from a batch, unless it is settled."""
        if self.settled or not self._axes:
            return
        self._axes &= set(_axes(outputs, targets))
        for axis in tuple(self._axes):
            drawn = _drawn(self._criterion, outputs, targets, axis)
            if drawn is not None:
                self._learn(axis, targets, drawn)
            elif targets.ndim > 1:  # (B, C) and (B,) leave no other reading
                self._drop(axis, targets)

    def settle(self) -> None:
        """All batches have been looked at."""
        self.settled = True

    def fits(self, outputs: Any, targets: Any) -> bool:
        """Whether these outputs hold a score for each class, for each of these targets."""
        return self.axis in tuple(_axes(outputs, targets))

    def count_hits(self, outputs: Any, targets: Any, finite: bool) -> tuple[Tensor | float, Tensor | float]:
        """Correct predictions and targets that count; NaN hits where an output is NaN or a target no class.

        `finite`: the loss is known to be, so that the outputs that count hold no NaN.
        """
        if isinstance(outputs, HiddenStates) and isinstance(self._criterion, InPieces):
            parts = self._criterion.logits(outputs, targets)
            found = [self.count_hits(z, own, finite) for z, own in parts]
            return sum(hits for hits, _ in found), sum(number for _, number in found)
        if self.axis is None or not self.fits(outputs, targets):
            return float("nan"), 1.0
        if finite and self.names_classes_alone and all(value < 0 for value in self.ignored):
            return (outputs.argmax(self.axis) == targets).sum(), self.counted(targets).sum()
        top, predicted = outputs.max(self.axis)  # a NaN output is the maximum
        unclear = self.unclear(targets, outputs.shape[self.axis])
        unknown = top.isnan() if unclear is None else top.isnan() | unclear
        hit = torch.where(unknown, torch.nan, (predicted == targets).double())
        counted = self.counted(targets)
        return torch.where(counted, hit, 0.0).sum(), counted.sum()

    def counted(self, targets: Tensor) -> Tensor:
        """Mask of the targets that count."""
        masks = [targets != value for value in self.ignored] or [torch.ones_like(targets, dtype=torch.bool)]
        return reduce(torch.logical_and, masks)

    @property
    def names_classes_alone(self) -> bool:
        """Whether the criterion itself refuses targets that are neither classes nor ignored."""
        return self._of_torch

    def unclear(self, targets: Tensor, classes: int) -> Tensor | None:
        """Mask of the targets that are no class, ignored ones too; None where the criterion refuses them itself."""
        return None if self._of_torch else (targets < 0) | (targets >= classes)

    def _learn(self, axis: int, targets: Tensor, drawn: Tensor) -> None:
        counted = drawn != NOWHERE
        self._wanted[axis] |= set(targets[counted].unique().tolist())
        self._ignored[axis] |= set(targets[~counted].unique().tolist())
        alike = bool((drawn == targets)[counted].all())
        looked_at = bool(self._wanted[axis]) or len(self._ignored[axis]) == 1  # all of a batch may be padding
        by_value = targets.ndim == 1 or not self._wanted[axis] & self._ignored[axis]  # or some have no successor
        if not (alike and looked_at and by_value):
            self._drop(axis, targets)

    def _drop(self, axis: int, targets: Tensor) -> None:
        self._axes.discard(axis)
        self.reason = (
            f"the criterion does not draw each output to its own target, {shapes(targets)}, as cross entropy does (it "
            "may shift the targets); pass accuracy="
        )


def _ignored_by_torch(criterion: Any) -> int | None:
    """`ignore_index` where the criterion is torch's cross entropy or NLL itself."""
    settings: dict[str, Any] = {}
    criterion = criterion.criterion if isinstance(criterion, InPieces) else criterion
    while isinstance(criterion, partial) and not criterion.args:
        criterion, settings = criterion.func, {**criterion.keywords, **settings}
    if criterion is F.cross_entropy or criterion is F.nll_loss:
        return int(settings.get("ignore_index", IGNORED))
    own = (nn.CrossEntropyLoss.forward, nn.NLLLoss.forward)
    if isinstance(criterion, nn.CrossEntropyLoss | nn.NLLLoss) and type(criterion).forward in own:
        return criterion.ignore_index
    return None


def _axes(outputs: Any, targets: Any) -> Iterator[int]:
    """The axes of `outputs`, of AXES, without which it has the shape of `targets`."""
    if not (isinstance(outputs, Tensor) and _integers(targets)) or outputs.ndim != targets.ndim + 1:
        return
    for axis in AXES:
        rest = list(outputs.shape)
        if rest.pop(axis) > 1 and rest == list(targets.shape):
            yield axis


def _integers(targets: Any) -> bool:
    if not isinstance(targets, Tensor) or targets.ndim == 0 or targets.dtype == torch.bool:
        return False
    return not (targets.is_floating_point() or targets.is_complex())


def _drawn(criterion: Criterion, outputs: Tensor, targets: Tensor, axis: int) -> Tensor | None:
    """The class that each output is drawn to where all are 1 / C, in the targets' shape; None without a gradient.

    NOWHERE for an output that the criterion does not look at, MANY for one that is drawn to several classes alike.
    """
    dtype = torch.promote_types(outputs.dtype, torch.float32)
    g = None
    with derivatives_on(), suppress(Exception):  # whatever it complains of, it says nothing then
        even = torch.full(outputs.shape, 1 / outputs.shape[axis], dtype=dtype, device=outputs.device)
        even.requires_grad_()
        g = torch.autograd.grad(criterion(even.clone(), targets.clone()), even)[0].movedim(axis, -1)
    if g is None or not bool(g.isfinite().all()):
        return None
    least, drawn = g.min(-1)
    drawn = drawn.where((g == least[..., None]).sum(-1) == 1, MANY)
    return drawn.where((g != 0).any(-1), NOWHERE)
