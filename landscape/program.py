"""One batch as a differentiable function of w: forward and criterion run on weights put in place for them.

`torch.func.functional_call` swaps views of w and copies of the buffers in for the length of a call, so that the model's
own tensors are neither written nor part of a graph.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from landscape.batches import shapes
from landscape.checks import require
from landscape.vectors import Layout

Criterion = Callable[[Any, Any], Tensor]
Forward = Callable[[nn.Module, Any], Any]


class Program(nn.Module):
    """forward and criterion as one module, so that both see the weights that `functional_call` puts in place."""

    def __init__(self, model: nn.Module, forward: Forward, criterion: Criterion) -> None:
        super().__init__()
        self.model, self.outputs, self.criterion = model, forward, criterion

    def forward(self, inputs: Any, targets: Any, index: int) -> tuple[Tensor, Any]:
        outputs = self.outputs(self.model, inputs)
        return criterion_loss(self.criterion, outputs, targets, index), outputs


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch of a pass over the data, as a differentiable function of w."""

    program: Program
    layout: Layout
    index: int
    inputs: Any
    targets: Any
    units: float
    w: Tensor  # (P,), where the pass is; a private copy
    state: Mapping[str, Tensor]  # the model's other parameters and its buffers
    rewind: Callable[[], None] | None = None  # goes back to the random state in which the batch is evaluated

    def evaluate(self, w: Tensor) -> tuple[Tensor, Any]:
        """Mean loss over the batch, (), and the outputs, at w. A NaN stays NaN."""
        return self._evaluated(self.layout.unflatten(w))

    def loss(self, w: Tensor) -> Tensor:
        """Mean loss over the batch at w, (). Raises ValueError if it is NaN or infinite."""
        return self.loss_of(self.layout.unflatten(w))

    def loss_of(self, pieces: Sequence[Tensor]) -> Tensor:
        """As `loss`, where each parameter is a tensor of its own, so that derivatives can be taken one by one."""
        loss, _ = self._evaluated(pieces)
        require(
            bool(loss.isfinite()),
            f"batch {self.index}: the loss is {loss.item()}; check the weights, inputs and targets for NaN",
        )
        return loss

    def afresh(self) -> "Batch":
        """The same batch with buffers of its own, to be evaluated once more: a forward pass may write into them."""
        own = {name: self.state[name].clone() for name, _ in self.program.model.named_buffers()}
        return replace(self, state={**self.state, **own})

    def _evaluated(self, pieces: Sequence[Tensor]) -> tuple[Tensor, Any]:
        if self.rewind is not None:
            self.rewind()
        state = {f"model.{name}": value for name, value in self.state.items()}
        for name, piece in zip(self.layout.names, pieces, strict=True):
            state[f"model.{name}"] = piece.to(state[f"model.{name}"].dtype)
        loss, outputs = torch.func.functional_call(self.program, state, (self.inputs, self.targets, self.index))
        return loss, outputs


def criterion_loss(criterion: Criterion, outputs: Any, targets: Any, index: int) -> Tensor:
    """The criterion's value, (); what it complains of becomes one ValueError that shows the shapes."""

    def met() -> str:
        return f"batch {index}: criterion on outputs {shapes(outputs)} and targets {shapes(targets)}"

    try:
        with warnings.catch_warnings():  # where torch would broadcast (B, 1) with (B,) to (B, B)
            warnings.filterwarnings("error", message="Using a target size")
            loss = criterion(outputs, targets)
    except torch.OutOfMemoryError:  # a RuntimeError that the targets have no part in
        raise
    except (RuntimeError, ValueError, IndexError, TypeError, UserWarning) as error:
        raise ValueError(f"{met()} failed: {str(error).splitlines()[0]}; check the targets' shape and dtype") from error
    if not (isinstance(loss, Tensor) and loss.numel() == 1 and loss.is_floating_point()):
        raise ValueError(f"{met()} must give a scalar mean, got {shapes(loss)}; use reduction='mean'")
    return loss.reshape(())


def gradient_of(
    value: Tensor, leaf: Tensor, cotangent: Tensor | None = None, *, keep: bool = False, create: bool = False
) -> Tensor:
    """d value / d leaf, zero where value does not depend on it."""
    if not value.requires_grad:
        return torch.zeros_like(leaf)
    return torch.autograd.grad(
        value,
        leaf,
        cotangent,
        retain_graph=keep or create,
        create_graph=create,
        allow_unused=True,
        materialize_grads=True,
    )[0]
