"""Lookahead: k steps forward, one back. Every k steps of any optimiser, φ ← φ + alpha (w − φ) and w ← φ.

Stochastic weight averaging, its neighbour, is torch's: `torch.optim.swa_utils.AveragedModel(model)`, its
`update_parameters(model)` after each step or epoch, `update_bn` at the end, also around `SharpnessAware`. In the
bundled trainer both are settings: `lookahead_steps`, `swa_from`.
Source: Zhang et al. 2019, arXiv:1907.08610.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from landscape.checks import integer_in, require
from landscape.training.sharpness_aware.copies import attributes_of

Base = TypeVar("Base", bound=torch.optim.Optimizer)


def lookahead(optimizer: Base, k: int = 5, alpha: float = 0.5) -> Base:
    """Make a torch optimiser look ahead, from its present weights; the same object, for `SharpnessAware` or a loop.

    The slow weights φ and the count of steps lie in the optimiser's own state, and so in its `state_dict`. Copies and
    pickles look ahead too.

    Args:
        optimizer: before its first step.
        k: steps forward; reference: 5.
        alpha: share of the way that is kept, in (0, 1]; reference: .5; 1 is the optimiser itself.
    Raises:
        ValueError: if k is below 1, alpha outside (0, 1], or the optimiser looks ahead already.
    """
    integer_in("k", k, 1)
    require(0 < alpha <= 1, f"alpha must be in (0, 1], got {alpha!r}")
    require(not isinstance(optimizer, _Looking), "optimizer must not look ahead yet; take the one it was made of")
    start = {p: p.detach().clone() for group in optimizer.param_groups for p in group["params"]}
    kind: Any = type(optimizer)
    optimizer.__class__ = _looking(kind)
    optimizer.__setstate__({"lookahead": _Lookahead(k, alpha, start)})
    return optimizer


@dataclass
class _Lookahead:
    """The hook after each step; `start`: φ of parameters that have none in the state yet."""

    k: int
    alpha: float
    start: dict[Tensor, Tensor]

    @torch.no_grad()
    def __call__(self, base: torch.optim.Optimizer, _arguments: Any, _keywords: Any) -> None:
        first = base.param_groups[0]
        first["lookahead_steps"] = first.get("lookahead_steps", 0) + 1
        for p in [p for group in base.param_groups for p in group["params"] if p.grad is not None]:
            state = base.state[p]  # filled here and not before: a first step asks whether it is empty
            if "slow" not in state:
                state["slow"] = self.start.pop(p, p).detach().clone()
            if first["lookahead_steps"] % self.k == 0:
                state["slow"].lerp_(p, self.alpha)
                p.copy_(state["slow"])


class _Looking:
    """What a class of optimisers needs to be copied with its hook, of which torch's copies know nothing."""

    __slots__ = ()
    base: type[torch.optim.Optimizer]
    lookahead: _Lookahead


def _getstate(self: Any) -> dict[str, Any]:
    return {**type(self).base.__getstate__(self), **attributes_of(self)}


def _setstate(self: Any, state: dict[str, Any]) -> None:
    type(self).base.__setstate__(self, state)
    if "lookahead" in state:  # and not one that is loaded
        self.register_step_post_hook(self.lookahead)


def _reduce_ex(self: Any, _protocol: Any) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    return _empty, (type(self).base,), self.__getstate__()


@cache
def _looking(base: Any) -> Any:
    own = {"__getstate__": _getstate, "__setstate__": _setstate, "__reduce_ex__": _reduce_ex, "base": base}
    return type(base.__name__, (base, _Looking), own)  # base first: objects of it may become objects of this


def _empty(base: Any) -> torch.optim.Optimizer:
    kind = _looking(base)
    optimizer: torch.optim.Optimizer = kind.__new__(kind)
    return optimizer
