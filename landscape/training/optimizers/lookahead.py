"""Lookahead: k steps forward, one back. Every k steps of any optimiser, φ ← φ + alpha (w − φ) and w ← φ.

Stochastic weight averaging, its neighbour, is torch's: `torch.optim.swa_utils.AveragedModel(model)`, its
`update_parameters(model)` after each step or epoch, `update_bn` at the end, also around `SharpnessAware`. In the
bundled trainer both are settings: `lookahead_steps`, `swa_from`.
Source: Zhang et al. 2019, arXiv:1907.08610.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from landscape.checks import integer_in, require

Base = TypeVar("Base", bound=torch.optim.Optimizer)


def lookahead(optimizer: Base, k: int = 5, alpha: float = 0.5) -> Base:
    """Make a torch optimiser look ahead, from its present weights; the same object, for `SharpnessAware` or a loop.

    The slow weights φ and the count of steps lie in the optimiser's own state, and so in its `state_dict`. torch copies
    and pickles no hooks: call this again on a copy of a bare optimiser; `SharpnessAware` takes it along.

    Args:
        optimizer: before its first step.
        k: steps forward; reference: 5.
        alpha: share of the way that is kept, in (0, 1]; reference: .5; 1 is the optimiser itself.
    Raises:
        ValueError: if k is below 1 or alpha outside (0, 1].
    """
    integer_in("k", k, 1)
    require(0 < alpha <= 1, f"alpha must be in (0, 1], got {alpha!r}")
    start = {p: p.detach().clone() for group in optimizer.param_groups for p in group["params"]}
    optimizer.register_step_post_hook(Ahead(k, alpha, start))
    return optimizer


@dataclass
class Ahead:
    """The hook after each step; `start` has the weights of before the first one."""

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
