"""SAF, sharpness-aware training for free: L + λτ² KL(softmax(z_past/τ) ‖ softmax(z/τ)), z_past some epochs old."""

from math import nan
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from landscape.checks import integer_in
from landscape.training.objectives.distillation import check_distillation, divergence
from landscape.training.objectives.objective import Criterion, Objective


class Saf(Objective):
    """One pass a step, and the logits of `lag` epochs in memory.

    Args:
        criterion: one loss a sample, (B,).
        lmbda: weight of the divergence; reference: .3.
        tau: temperature; reference: 5.
        start: the first epoch, counted from 0, with the divergence; reference: 5.
        lag: age of z_past in epochs; reference: 3. A sample without logits of that epoch adds nothing.
    Raises:
        ValueError: if a setting is out of range.
    Source: Du et al. 2022, arXiv:2205.14083.
    """

    def __init__(
        self, criterion: Criterion, lmbda: float = 0.3, tau: float = 5.0, start: int = 5, lag: int = 3
    ) -> None:
        super().__init__(criterion)
        check_distillation(lmbda, tau, start)
        integer_in("lag", lag, 1)
        self.lmbda, self.tau, self.start, self.lag = lmbda, tau, start, lag
        self.epoch = -1
        self._logits = torch.empty(
            lag + 1, 0, 0, device="cpu"
        )  # (lag + 1, samples, C), epoch by epoch in turn; NaN where none yet

    def start_epoch(self, epoch: int, model: nn.Module) -> None:  # noqa: ARG002
        """The oldest epoch's logits make room, unless the epoch is under way."""
        if epoch != self.epoch:
            self.epoch = epoch
            self._logits[epoch % (self.lag + 1)] = nan

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """See `Objective`."""
        loss, outputs = super().__call__(model, inputs, targets, index)
        index = index.to(outputs.device)
        if self.first_pass:
            self._keep(index, outputs.detach())
            self.first_pass = False
        past = self._logits[(self.epoch + 1) % (self.lag + 1), index]  # of epoch − lag
        known = ~past.isnan().any(1)
        if self.epoch >= self.start and known.any():
            loss = loss + self.lmbda * known.to(loss).mean() * divergence(past[known], outputs[known], self.tau)
        return loss, outputs

    def state_dict(self) -> dict[str, Any]:
        """See `Objective`."""
        return {"epoch": self.epoch, "logits": self._logits}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Objective`."""
        self.epoch, self._logits = state["epoch"], state["logits"]

    def _keep(self, index: Tensor, logits: Tensor) -> None:
        """Remember the batch's logits (B, C), with more room where a sample is new."""
        old = self._logits.to(logits) if self._logits.numel() else logits.new_empty(self.lag + 1, 0, logits.shape[1])
        missing = max(int(index.max()) + 1 - old.shape[1], 0)
        self._logits = F.pad(old, (0, 0, 0, missing), value=nan) if missing else old
        self._logits[self.epoch % (self.lag + 1), index] = logits
