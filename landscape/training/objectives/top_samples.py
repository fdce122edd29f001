"""ESAM's selection of samples: pass 2 is over those whose loss rises most from w to w + e."""

import torch
from torch import Tensor, nn

from landscape.checks import require
from landscape.training.objectives.objective import Criterion, Objective


class TopSamples(Objective):
    """Pass 1 is over the batch; those after it take all samples forward and the chosen ones backward.

    The first of them chooses, so that the passes of a rule that makes more are of one function. Where e is zero no loss
    rises, there is no pass 2, and the step is over the batch.

    Args:
        criterion: one loss a sample, (B,).
        gamma: share of the samples in pass 2, in (0, 1], at least one; reference: .5; 1 is all.
    Raises:
        ValueError: if gamma is out of range.
    Source: Du et al. 2022, arXiv:2110.03141.
    """

    def __init__(self, criterion: Criterion, gamma: float = 0.5) -> None:
        super().__init__(criterion)
        require(0 < gamma <= 1, f"gamma must be in (0, 1], got {gamma!r}")
        self.gamma = gamma
        self._before = torch.empty(0, device="cpu")
        self._chosen: Tensor | None = None

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """See `Objective`."""
        outputs = model(inputs)
        losses = self.criterion(outputs, targets)
        if self.first_pass:
            self._before, self._chosen, self.first_pass = losses.detach(), None, False
            return losses.mean(), outputs
        if self._chosen is None:
            count = max(round(self.gamma * len(losses)), 1)
            self._chosen = (losses.detach() - self._before).topk(count).indices
        return losses[self._chosen].mean(), outputs
