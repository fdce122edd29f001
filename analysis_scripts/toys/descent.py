"""Many runs of a training rule side by side, on a function of few parameters."""

from collections.abc import Callable

import torch
from torch import Tensor

from landscape.training.rules import Rule

Function = Callable[[Tensor], Tensor]


def gradient(f: Function, w: Tensor) -> Tensor:
    """Of f, (..., P) -> (...), at each w, (..., P)."""
    w = w.detach().requires_grad_()
    return torch.autograd.grad(f(w).sum(), w)[0]


def descend(f: Function, rule: Rule, starts: Tensor, *, steps: int, lr: float, momentum: float = 0.0) -> Tensor:
    """The rule's way from each start, (R, P) -> (steps + 1, R, P), for a rule that keeps nothing between steps.

    e and d by the rule; m ← momentum m + d, w ← w − lr m.
    """
    w, m, path = starts, torch.zeros_like(starts), [starts]
    for _ in range(steps):
        g = gradient(f, w)
        e = [rule.perturb(*own, None)[0] for own in zip(w, g, strict=True)]
        g_adv = gradient(f, w + torch.stack([own for own in e if own is not None]))
        m = momentum * m + torch.stack([rule.descend(*own) for own in zip(g, g_adv, strict=True)])
        w = w - lr * m
        path.append(w)
    return torch.stack(path)
