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


def symmetric(spectrum: Tensor, seed: int = 0) -> Tensor:
    """A matrix with this spectrum and random eigenvectors."""
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(len(spectrum), len(spectrum), generator=generator, dtype=torch.float64))
    matrix = q @ torch.diag(spectrum.double()) @ q.T
    return (matrix + matrix.T) / 2


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
