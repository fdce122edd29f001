"""Noise on the branches of residual blocks: one factor in the forward pass, another in the backward pass.

f(α) with the gradient of f(β) is f(β) + (f(α) − f(β)) held fixed, so that second derivatives exist too. In evaluation
the factors are their means, and all derivatives are those of what is computed.
"""

import torch
from torch import Tensor, nn


class ShakeDrop(nn.Module):
    """(b + α − bα) x in the forward, (b + β − bβ) x in the backward pass.

    b ~ Bernoulli(keep), α ~ U(−1, 1), β ~ U(0, 1), drawn for each image. In evaluation keep · x,
    the mean of the forward pass.
    Source: Yamada et al. 2019, arXiv:1802.02375.
    """

    def __init__(self, keep: float) -> None:
        super().__init__()
        self.keep = keep

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.keep * x
        kept, alpha, beta = _uniform(x), 2 * _uniform(x) - 1, _uniform(x)
        kept = (kept < self.keep).to(x)
        return _between(x * (kept + alpha - kept * alpha), x * (kept + beta - kept * beta))


class ShakeShake(nn.Module):
    """α x + (1 − α) y in the forward, β x + (1 − β) y in the backward pass; α, β ~ U(0, 1) for each image.

    In evaluation (x + y)/2. Source: Gastaldi 2017, arXiv:1705.07485 ("shake-shake-image").
    """

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if not self.training:
            return (x + y) / 2
        alpha, beta = _uniform(x), _uniform(x)
        return _between(y + alpha * (x - y), y + beta * (x - y))


def _uniform(x: Tensor) -> Tensor:
    return torch.rand(len(x), *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device)


def _between(forward: Tensor, backward: Tensor) -> Tensor:
    """The value of one, the gradient of the other."""
    return backward + (forward - backward).detach()
