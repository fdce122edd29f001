"""SAM with adversarial inputs: min over w, max over e, max over input perturbations, both maxima from one backward."""

import torch
from torch import Tensor, nn

from landscape.checks import not_negative
from landscape.training.objectives.objective import Criterion, Objective


class AdversarialInputs(Objective):
    """Pass 1 is at the inputs x; those after it at x + δ, δ = size sign(∂L/∂x), the maximiser of the linearised loss.

    Only with a rule that has a second pass; the inputs must be floating point.

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

    def __call__(self, model: nn.Module, inputs: Tensor, targets: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """See `Objective`."""
        if self.first_pass:
            self._leaf, self.first_pass = inputs.detach().clone().requires_grad_(), False
            return super().__call__(model, self._leaf, targets, index)
        if self._leaf.grad is None:
            raise ValueError("pass 2 needs the inputs' gradient: call loss.backward() in pass 1")
        return super().__call__(model, inputs + self.size * self._leaf.grad.sign(), targets, index)
