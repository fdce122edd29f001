"""MESA: L + λτ² KL(softmax(z_past/τ) ‖ softmax(z/τ)), z_past from a moving average of the weights."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from landscape.checks import require
from landscape.training.objectives.distillation import check_distillation, divergence
from landscape.training.objectives.objective import Criterion, Objective


class Mesa(Objective):
    """One pass and one forward pass of the averaged model a step, and a copy of the weights in memory.

    Args:
        criterion: one loss a sample, (B,).
        lmbda: weight of the divergence; reference: .8.
        tau: temperature; reference: 5.
        start: the first epoch, counted from 0, with the divergence; reference: 5.
        decay: of the moving average, in [0, 1), which begins at `start`; reference: .9995.
    Raises:
        ValueError: if a setting is out of range.
    Source: Du et al. 2022, arXiv:2205.14083.
    """

    def __init__(
        self, criterion: Criterion, lmbda: float = 0.8, tau: float = 5.0, start: int = 5, decay: float = 0.9995
    ) -> None:
        super().__init__(criterion)
        check_distillation(lmbda, tau, start)
        require(0 <= decay < 1, f"decay must be in [0, 1), got {decay!r}")
        self.lmbda, self.tau, self.start, self.decay = lmbda, tau, start, decay
        self._average: AveragedModel | None = None
        self._loaded: dict[str, Tensor] | None = None

    def start_epoch(self, epoch: int, model: nn.Module) -> None:
        """Begin the average when it is time, or go on with the one that was loaded."""
        if epoch < self.start:
            return
        if self._average is None:
            with torch.device("cpu"):  # where its count of updates is
                self._average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(self.decay), use_buffers=True)
            self._average.update_parameters(model)
        if self._loaded is not None:
            self._average.load_state_dict(self._loaded)
            self._loaded = None

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """See `Objective`."""
        loss, outputs = super().__call__(model, inputs, targets, index)
        if self._average is not None:
            with torch.no_grad():
                past = self._average.eval()(inputs)
            loss = loss + self.lmbda * divergence(past, outputs, self.tau)
        return loss, outputs

    def end_step(self, model: nn.Module) -> None:
        """Take the new weights into the average."""
        if self._average is not None:
            self._average.update_parameters(model)

    def state_dict(self) -> dict[str, Any]:
        """See `Objective`."""
        return {"average": None if self._average is None else self._average.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See `Objective`."""
        self._loaded = state["average"]
