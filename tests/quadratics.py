"""Losses whose geometry is known in closed form: L(w) = ½ wᵀA w + bᵀw, whatever the data."""

import torch
from torch import Tensor, nn

from landscape.problem import Problem


class Quadratic(nn.Module):
    def __init__(self, w: Tensor, A: Tensor, b: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(w.clone())
        self.A, self.b = A, b

    def forward(self, x: Tensor) -> Tensor:
        return (0.5 * self.weight @ self.A @ self.weight + self.b @ self.weight).expand(len(x))


def quadratic(A: Tensor, b: Tensor | None = None, w: Tensor | None = None) -> Problem:
    """Problem of size len(A) on seven samples in batches of 4 and 3; by default w = b = 0, a stationary point."""
    zero = torch.zeros(len(A), dtype=torch.float64)
    model = Quadratic(zero if w is None else w, A, zero if b is None else b)
    data = [(torch.zeros(n, 1, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)) for n in (4, 3)]
    return Problem(model, lambda outputs, targets: outputs.mean(), data)
