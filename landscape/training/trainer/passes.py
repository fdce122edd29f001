"""The closure of a step: some images through the network, and backward."""

from contextlib import AbstractContextManager, nullcontext
from math import isnan, nan
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from landscape.autograd.differentiable import differentiable
from landscape.checks import require
from landscape.training.trainer.device import autocast
from landscape.training.trainer.evaluation import count_right
from landscape.training.trainer.ranks import joined

if TYPE_CHECKING:
    from landscape.training.trainer.loop import Run


class Part:
    """Images that have a perturbation of their own, as the optimiser's closure; `loss` and `right` are sums at w.

    Args:
        run: the training.
        x, y: images and targets.
        index: their places in the training set.
        share: by which the loss is multiplied, so that the ranks' mean gradient is that of the batch.
    """

    def __init__(self, run: "Run", x: Tensor, y: Tensor, index: Tensor, share: float = 1.0) -> None:
        self.run, self.x, self.y, self.index, self.share = run, x, y, index, share
        self.backward = getattr(run.optimizer, "backward", Tensor.backward)  # AdaHessian has one of its own
        self.loss = nan
        self.right = 0.0

    def __call__(self) -> Tensor:
        run, size = self.run, self.run.micro_batch or max(len(self.x), 1)
        run.optimizer.zero_grad()
        total, right = torch.zeros((), device=run.device), 0.0
        pieces = list(zip(self.x.split(size), self.y.split(size), self.index.split(size), strict=True))
        for number, (x, y, index) in enumerate(pieces, 1):
            with joined(run.network, number == len(pieces)), _forms(run):
                with autocast(run.device, run.config.precision):
                    loss, outputs = run.objective(run.network, x, y, index)
                require(bool(loss.isfinite()) or run.ranks.size > 1, run.not_finite(loss))  # ranks compare after it
                part = loss * (self.share * len(x) / len(self.x))
                self.backward(part if run.scaler is None else run.scaler.scale(part))
            total, right = total + loss.detach() * len(x), right + count_right(outputs.detach(), y)
        if isnan(self.loss):  # the first pass is at w, later ones at w + e
            self.loss, self.right = float(total), right
        return total / len(self.x)


def _forms(run: "Run") -> AbstractContextManager[None]:
    """Of the network for a step: AdaHessian wants second derivatives, which fused attention has not."""
    return differentiable(run.model, twice=True) if run.config.optimizer == "adahessian" else nullcontext()
