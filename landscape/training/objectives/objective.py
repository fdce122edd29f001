"""The objective of a training step: the mean criterion, or something that remembers earlier passes, steps or epochs."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Criterion = Callable[[Tensor, Tensor], Tensor]


class Objective:
    """The criterion's mean over the batch, and the base of the other objectives.

    In a loop: `start_epoch`; then for each batch `start_step`, the optimiser's step, whose closure calls the objective
    in place of the model and the criterion, and `end_step`.

    Args:
        criterion: (outputs, targets) to one loss a sample, (B,): a plain function, reduction="none".
    """

    def __init__(self, criterion: Criterion) -> None:
        self.criterion = criterion
        self.first_pass = True

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Loss () and outputs (B, ...) of one pass; `index` (B,) says which samples of the data set these are."""
        outputs = model(inputs)
        return self.criterion(outputs, targets).mean(), outputs

    def start_epoch(self, epoch: int, model: nn.Module) -> None:
        """Epochs count from 0."""

    def start_step(self) -> None:
        """The next call is pass 1; those after it, up to the next `start_step`, are at displaced weights."""
        self.first_pass = True

    def end_step(self, model: nn.Module) -> None:
        """After the optimiser's step."""

    def state_dict(self) -> dict[str, Any]:
        """The state that a resumed run needs, between two steps; loadable with `weights_only=True`."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict()` was taken; `start_epoch` of the epoch to go on with is called after it."""
