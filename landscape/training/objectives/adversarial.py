"""Adversarial inputs, alone or with SAM: min over w, max over e, max over inputs, both maxima from one backward."""

import warnings

import torch
from torch import Tensor, nn

from landscape.checks import not_negative
from landscape.training.objectives.objective import Criterion, Objective


class AdversarialInputs(Objective):
    """Pass 1 is at the inputs x; those after it at x + δ, δ = size sign(∂L/∂x), the maximiser of the linearised loss.

    For `SharpnessAware(..., twice=True)`, which makes pass 2 also where e is zero: with radius 0 it is adversarial
    training of the base alone. A step without pass 2 was at x; the first one warns. The inputs must be floating point.

    Args:
        criterion: one loss a sample, (B,).
        size: of δ in the maximum norm, in the inputs' units, at least 0; reference: 2/255 of images in [0, 1].
    Raises:
        ValueError: if size is negative; at pass 2, if pass 1 had no backward.
    Source: Goodfellow et al. 2015, arXiv:1412.6572 (δ).
    """

    def __init__(self, criterion: Criterion, size: float = 2 / 255) -> None:
        super().__init__(criterion)
        not_negative("size", size)
        self.size = size
        self._leaf = torch.empty(0, device="cpu")
        self._moved = self._warned = False

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """See `Objective`."""
        if self.first_pass:
            self._leaf, self.first_pass, self._moved = inputs.detach().clone().requires_grad_(), False, False
            return super().__call__(model, self._leaf, targets, index)
        if self._leaf.grad is None:
            raise ValueError("pass 2 needs the inputs' gradient: call loss.backward() in pass 1")
        self._moved = True
        return super().__call__(model, inputs + self.size * self._leaf.grad.sign(), targets, index)

    def end_step(self, model: nn.Module) -> None:  # noqa: ARG002
        """Warn, once, of a step whose inputs were not adversarial."""
        if not (self._moved or self._warned):
            self._warned = True
            warnings.warn(
                "a step was at the inputs themselves: it had no pass 2, where adversarial inputs are (reported once); "
                "use SharpnessAware(..., twice=True), also around a base alone, with the rule sam(0)",
                stacklevel=2,
            )
