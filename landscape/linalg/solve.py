"""(A + δ I)⁻¹ b for a positive semi-definite operator by conjugate gradients with full reorthogonalisation.

The residuals of conjugate gradients are orthogonal in exact arithmetic; keeping them so by force makes the method end
after as many steps as A has distinct eigenvalues in b, also where the condition number is far above 1/eps.
Source: Hestenes and Stiefel 1952; Golub and Van Loan, Matrix Computations, section 11.3.
"""

from dataclasses import dataclass
from math import frexp

import torch
from torch import Tensor

from landscape.checks import integer_in, not_negative, positive, vector_like
from landscape.linalg.lanczos import orthogonalise
from landscape.linalg.operator import CurvatureOperator, whole_vectors
from landscape.linalg.scaled import Scaled, times_power
from landscape.linalg.shifted import Shifted


@dataclass(frozen=True, eq=False)
class Solution:
    """x with (A + δ I) x ≈ b. Its curvature xᵀ(A + δ I)x equals bᵀx at every step, converged or not."""

    x: Tensor  # (P,)
    relative_residual: float  # |b − (A + δ I) x| / |b|
    matvecs: int


def solve(
    operator: CurvatureOperator, b: Tensor, *, damping: float = 0.0, tol: float = 1e-8, max_matvecs: int = 500
) -> Solution:
    """Solve (A + δ I) x = b.

    Args:
        operator: symmetric positive semi-definite, (P, P).
        b: (P,); where δ = 0 it must lie in the range of A.
        damping: δ, in the operator's units.
        tol: stop when the residual is at most tol |b|.
        max_matvecs: stop after so many products; the basis of residuals takes as many vectors.
    Raises:
        ValueError: if an argument is out of range, the operator gives NaN or infinity, or x overflows b's dtype.
    """
    whole_vectors("solve", operator)
    vector_like("b", b, torch.empty(operator.shape[0], dtype=operator.dtype, device=operator.device))
    not_negative("damping", damping)
    positive("tol", tol)
    integer_in("max_matvecs", max_matvecs, 1)
    limit = min(max_matvecs, operator.shape[0])
    damped = Scaled(Shifted(operator, -damping))
    length_of_b = frexp(float(b.abs().max()))[1]
    b = times_power(b, -length_of_b)  # a power of two: no digit changes
    x, residual, norm = torch.zeros_like(b), b.clone(), float(b.norm())
    direction, squared, step = residual, norm**2, 0
    residuals = torch.empty(limit, len(b), dtype=b.dtype, device=b.device)
    while step < limit and squared > (tol * norm) ** 2:
        residuals[step] = residual / squared**0.5
        image = damped.matvec(direction)
        step += 1
        curvature = float(direction @ image)
        if curvature <= 0:  # rounding: what is left of b is outside the range of A
            break
        length = squared / curvature
        x = x + length * direction
        rest, _ = orthogonalise((residual - length * image)[None], residuals[None, :step], operator.space)
        residual, before = rest[0], squared
        squared = float(residual @ residual)
        direction = residual + squared / before * direction
    x = damped.restored(x, -1, length_of_b)
    return Solution(x, squared**0.5 / norm if norm > 0 else 0.0, step)
