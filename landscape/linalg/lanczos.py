"""Lanczos tridiagonalisation with full reorthogonalisation, several starting vectors in one pass over the data.

A V = V T + beta v eᵀ with V orthonormal and T tridiagonal. Without reorthogonalisation rounding lets converged Ritz
values come again as ghost copies; orthogonalising twice against the whole basis keeps V orthonormal to rounding.
Source: Golub and Van Loan, Matrix Computations, section 10.3; Parlett 1998, "twice is enough".
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.linalg.operator import CurvatureOperator
from landscape.linalg.scaled import require_finite
from landscape.processes.space import Space
from landscape.vectors import Block


@dataclass(frozen=True, eq=False)
class Tridiagonal:
    """K Lanczos runs of m steps; after a run's breakdown its rows are zero."""

    diagonal: Tensor  # (K, m), float64 on the CPU
    offdiagonal: Tensor  # (K, m); [:, j] couples j and j + 1; the last one is the residual's norm
    basis: Tensor  # (K, m, P), orthonormal rows
    lengths: Tensor  # (K,), steps before the breakdown

    def matrix(self, run: int) -> Tensor:
        """T of one run up to its breakdown, (n, n)."""
        n = int(self.lengths[run])
        off = self.offdiagonal[run, : n - 1]
        return torch.diag(self.diagonal[run, :n]) + torch.diag(off, 1) + torch.diag(off, -1)


def lanczos(operator: CurvatureOperator, starts: Block, steps: int) -> Tridiagonal:
    """Run `steps` Lanczos steps from each column of `starts` (P, K); K products a step in one block.

    Raises:
        ValueError: if the operator gives NaN or infinity.
    """
    count = starts.shape[1]
    steps = min(steps, operator.shape[0])
    space = operator.space
    basis = torch.zeros(count, steps, space.own, dtype=operator.dtype, device=operator.device)
    diagonal, offdiagonal = torch.zeros(2, count, steps, dtype=torch.float64, device="cpu")
    lengths = torch.full((count,), steps, device="cpu")
    norms = space.norms(starts)
    alive = norms > 0
    basis[:, 0] = (starts / torch.where(alive, norms, 1.0)).T
    for j in range(steps):
        image = operator.matmat(basis[:, j].T).T  # (K, P)
        image, along = orthogonalise(image, basis[:, : j + 1], space)
        residual = space.norms(image, 1).cpu().double()
        require_finite(float(residual.sum()))
        diagonal[:, j] = along[:, -1].cpu().double()
        scale = diagonal.abs().amax(1) + offdiagonal.abs().amax(1)
        broken = residual <= breakdown_level(operator, scale)
        lengths = torch.where(broken & (lengths == steps), j + 1, lengths)
        offdiagonal[:, j] = torch.where(broken, 0.0, residual)
        if j + 1 < steps:
            inverse = torch.where(broken, 0.0, 1 / residual).to(image)
            basis[:, j + 1] = image * inverse[:, None]
    return Tridiagonal(diagonal, offdiagonal, basis, lengths)


def orthogonalise(block: Tensor, basis: Tensor, space: Space | None = None) -> tuple[Tensor, Tensor]:
    """Take the span of `basis` (K, m, P) out of `block` (K, P), twice; returns the rest and the coefficients (K, m)."""
    total = torch.zeros(basis.shape[:2], dtype=block.dtype, device=block.device)
    for _ in range(2):
        coefficients = torch.einsum("kmp,kp->km", basis, block)
        coefficients = coefficients if space is None else space.added(coefficients)
        block = block - torch.einsum("kmp,km->kp", basis, coefficients)
        total = total + coefficients
    return block, total


def breakdown_level(operator: CurvatureOperator, scale: Tensor) -> Tensor:
    """Residual norms up to this are rounding, of sums of 10⁴ numbers: the Krylov space is invariant."""
    return 100 * torch.finfo(operator.dtype).eps * scale
