"""What the first evaluation of a model shows about its forward pass, and what is refused then.

A loss that reads weights from elsewhere than the model's modules (a list, a closure) would not move with w, and a
forward pass that writes into its weights in a way that cannot be followed would have another gradient than torch gives:
both would be wrong without a word.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from landscape.checks import first_line

AGREEMENT = {torch.float64: 1e-4}  # of a gradient with differences of the loss; other precisions 3e-2


class BatchError(ValueError):
    """What is wrong with a batch, whichever way its derivatives are taken."""


@dataclass(eq=False)
class Traits:
    """What the first evaluations of a model have shown about its forward pass."""

    known: bool = False  # there has been a first evaluation
    changes_attributes: bool = False  # of modules
    writes_tensors: bool = False  # that are such attributes, in place
    writes_weights: bool = False  # in place, as models that rescale themselves do
    writes_others: bool = False  # parameters that are not chosen, as models that average their weights do
    needs_derivatives: bool = False  # also where only the loss is asked for
    differentiates_inside: bool = False  # by its input or its weights
    criterion_draws: bool = False  # random numbers of its own
    shapes: set[Any] = field(default_factory=set)  # of outputs and targets that the criterion took without a warning
    checked_graph: bool = False  # nothing cuts the loss off from the weights
    opened: tuple[Any, Any] | None = None  # what a pass that is kept open serves, and its placement


class OwnWeightsWatched(TorchFunctionMode):
    """Within the block no operation may take one of the model's own parameters, in whose place others are.

    `before_write` is told of each tensor that an operation is about to write into.
    """

    def __init__(self, names: Mapping[int, str], before_write: Callable[[Any], None]) -> None:
        super().__init__()
        self._names, self._before_write = names, before_write

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if getattr(func, "__name__", "") != "__get__":  # a shape or a device may be asked for
            given = [*args, *(kwargs or {}).values()]
            nested = [part for value in given if isinstance(value, list | tuple) for part in value]
            for value in (*given, *nested):
                if isinstance(value, nn.Parameter) and id(value) in self._names:
                    raise BatchError(
                        "the loss must read weights from the model's modules when it is called, got "
                        f"{self._names[id(value)]!r} from elsewhere (a list, a closure); read it from the model inside "
                        "forward or criterion"
                    )
        for written in (*(args[:1] if writes(func) else ()), (kwargs or {}).get("out")):
            for tensor in written if isinstance(written, list | tuple) else (written,):
                self._before_write(tensor)
        return func(*args, **(kwargs or {}))


def writes(func: Callable[..., Any]) -> bool:
    """Whether an operation of torch writes into its first argument."""
    name = getattr(func, "__name__", "")
    inplace = (name.endswith("_") and not name.endswith("__")) or name in ("__setitem__", "__imul__", "__idiv__")
    return inplace or func == Tensor.data.__set__  # type: ignore[attr-defined]


def require_followed(loss_of: Callable[[Sequence[Tensor]], Tensor], pieces: Sequence[Tensor]) -> None:
    """Compare the gradient of a loss whose forward pass writes into the weights with differences of the loss.

    Args:
        loss_of: the loss at such weights.
        pieces: w, in the parameters' shapes.
    Raises:
        ValueError: if they disagree: what is written could not be made a part of the function.
    """
    leaves = [piece.detach().clone().requires_grad_() for piece in pieces]
    w, eps = torch.cat([leaf.detach().flatten() for leaf in leaves]), torch.finfo(leaves[0].dtype).eps
    try:
        with torch.enable_grad():
            loss = loss_of(leaves)
        g = torch.cat(
            [part.flatten() for part in torch.autograd.grad(loss, leaves, materialize_grads=True, allow_unused=True)]
        )
        off = max(_off(loss_of, pieces, w, g, direction, eps) for direction in (g, w.cos()))
    except RuntimeError as error:
        raise BatchError(f"{WRITTEN}, and torch says: {first_line(error)}") from error
    if off > AGREEMENT.get(w.dtype, 3e-2):
        raise BatchError(f"{WRITTEN}: its gradient is off by {off:.2g} from differences of the loss")


WRITTEN = (
    "the forward pass writes into its weights in a way that cannot be followed; rescale them once before, or write "
    "weight * factor in place of weight.mul_(factor)"
)


def _off(
    loss_of: Callable[[Sequence[Tensor]], Tensor],
    pieces: Sequence[Tensor],
    w: Tensor,
    g: Tensor,
    direction: Tensor,
    eps: float,
) -> float:
    """|gᵀu − difference along u| over |g|, for the unit vector u along `direction`."""
    u = direction / direction.norm().clamp(min=torch.finfo(w.dtype).tiny)
    h, sizes = eps ** (1 / 3) * float(1 + w.norm()), [piece.numel() for piece in pieces]

    def moved(sign: int) -> float:
        parts = (w + sign * h * u).split(sizes)
        with torch.no_grad():
            return float(loss_of([part.view_as(piece).clone() for part, piece in zip(parts, pieces, strict=True)]))

    slope = (moved(1) - moved(-1)) / (2 * h)
    return abs(float(g @ u) - slope) / max(float(g.norm()), abs(slope), 1e-30)
