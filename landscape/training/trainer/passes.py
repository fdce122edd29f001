"""One step: some images through the network, backward, and the optimiser."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from landscape.autograd.differentiable import differentiable
from landscape.checks import first_line
from landscape.problem import Problem
from landscape.side_effects import buffer_state, random_state
from landscape.training.optimizers.natural_gradient import NaturalGradient
from landscape.training.sharpness_aware.step import SharpnessAware
from landscape.training.trainer.device import autocast
from landscape.training.trainer.evaluation import hits
from landscape.training.trainer.kept import smaller
from landscape.training.trainer.ranks import joined
from landscape.vectors import is_synchronous

if TYPE_CHECKING:
    from landscape.training.trainer.loop import Run

SUMS = torch.float64 if not torch.backends.mps.is_available() else torch.float32


class Part:
    """Images that have a perturbation of their own, as the optimiser's closure.

    `sums`, (2,), of the losses and of the right ones are at w.

    Args:
        run: the training.
        x, y: images and targets.
        index: their places in the training set.
        share: by which the loss is multiplied, so that the ranks' mean gradient is that of the batch.
    """

    def __init__(self, run: "Run", x: Tensor, y: Tensor, index: Tensor, share: float = 1.0) -> None:
        self.run, self.x, self.y, self.index, self.share = run, x, y, index, share
        self.backward = getattr(run.optimizer, "backward", Tensor.backward)  # AdaHessian has one of its own
        self.sums: Tensor | None = None
        self.ran_out = False  # of memory, in one of its passes

    def __call__(self) -> Tensor:
        try:
            return self._pass()
        except torch.OutOfMemoryError:
            self.ran_out = True
            raise
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ValueError(
                f"batch norm needs more than a batch of {len(self.x)}: take another batch_size, the last batch is what "
                f"it leaves over, or micro_batch ({first_line(error)})"
            ) from error

    def _pass(self) -> Tensor:
        run, size = self.run, self.run.micro_batch or max(len(self.x), 1)
        run.optimizer.zero_grad()
        total, right = torch.zeros((), device=run.device), torch.zeros((), device=run.device)
        pieces = _pieces(size, self.x, self.y, self.index)
        for number, (x, y, index) in enumerate(pieces, 1):
            with joined(run.network, number == len(pieces)), _forms(run):
                with autocast(run.device, run.config.precision):
                    loss, outputs = run.objective(run.network, x, y, index)
                if is_synchronous(loss) and run.ranks.size == 1:  # else it shows in the sums
                    run.require_finite(loss.item())
                part = loss * (self.share * len(x) / len(self.x))
                self.backward(part if run.scaler is None else run.scaler.scale(part))
            total = total + loss.detach() * len(x)
            if self.sums is None:
                each = 1 if y.is_floating_point() else y[0].numel()  # labels of an input
                right = right + hits(outputs.detach(), y) / each
        if self.sums is None:  # the first pass is at w, later ones at w + e
            self.sums = torch.stack([total.to(SUMS), right.to(SUMS)])
        return total / len(self.x)

    def natural_step(self, optimizer: NaturalGradient) -> None:
        """The whole step, on the batch as a Problem; a forward pass before it moves batch-norm statistics."""
        run, size = self.run, self.run.micro_batch or len(self.x)
        pieces = _pieces(size, self.x, self.y)
        right = torch.zeros((), device=run.device)
        criterion = nn.CrossEntropyLoss(label_smoothing=run.config.label_smoothing)
        try:
            with torch.no_grad():
                for x, y in pieces:
                    right = right + hits(run.model(x), y) / (1 if y.is_floating_point() else y[0].numel())
            loss = optimizer.step(Problem(run.model, criterion, pieces, batch_norm="batch"))
        except torch.OutOfMemoryError:
            self.ran_out = True
            raise
        self.sums = torch.stack([loss.to(SUMS) * len(self.x), right.to(SUMS)])


def _forms(run: "Run") -> AbstractContextManager[None]:
    """Of the network for a step: AdaHessian wants second derivatives, which fused attention has not."""
    return differentiable(run.model, twice=True) if run.config.optimizer == "adahessian" else nullcontext()


def step_on(run: "Run", x: Tensor, y: Tensor, index: Tensor, count: int) -> list[Part]:
    """A step on this process's images of a batch of `count`; with half as many at a time where memory is short."""
    alone = run.ranks.size == 1
    share = 1.0 if run.config.m_sharpness else len(x) * run.ranks.size / count
    size = (run.config.m_sharpness if alone else 0) or max(len(x), 1)
    before = (random_state(), buffer_state(run.model)) if can_run_out(run.device) else None
    while True:
        parts = [Part(run, a, b, c, share) for a, b, c in _pieces(size, x, y, index)]
        try:
            _optimise(run, parts)
        except torch.OutOfMemoryError as error:
            if not any(part.ran_out for part in parts):  # the weights may have moved
                raise ValueError(
                    "out of memory in the optimiser's own step; take a smaller network or another base, and the same "
                    "folder goes on from what was saved last"
                ) from error
            if before is None:
                raise ValueError(
                    f"out of memory on {run.device}, where no step is made again; the same folder goes on from what "
                    "was saved last"
                ) from error
            run.micro_batch = smaller(run.micro_batch or len(x), run.config, run.ranks, error)
            for restore in before:
                restore()
            continue
        return parts


def can_run_out(device: torch.device) -> bool:
    """Whether memory may end in `torch.OutOfMemoryError`, after which a step is made again: on a CPU it does not."""
    return device.type != "cpu" or torch.cuda.is_initialized()  # of which a network may make use by itself


def _pieces(size: int, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """The tensors, so many of their rows at a time."""
    if size >= len(tensors[0]):
        return [tensors]
    return list(zip(*(tensor.split(size) for tensor in tensors), strict=True))


def _optimise(run: "Run", parts: Sequence[Part]) -> None:
    run.objective.start_step()
    if isinstance(run.optimizer, SharpnessAware):
        run.optimizer.step(parts, sizes=[len(part.y) for part in parts], scaler=run.scaler)
    elif isinstance(run.optimizer, NaturalGradient):
        parts[0].natural_step(run.optimizer)
    else:
        run.optimizer.step(parts[0])  # type: ignore[arg-type]
    if run.scaler is not None:
        run.scaler.update()
    run.objective.end_step(run.model)
