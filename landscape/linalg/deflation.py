"""Large eigenvalues taken out of an operator, so that random probes need to see only the rest.

(I − V Vᵀ) A (I − V Vᵀ) with orthonormal V. tr(A) = tr(Vᵀ A V) + tr(rest) holds for any V; for other functions of A the
error is second order in the residuals of V.
Source: Gambhir, Stathopoulos and Orginos 2017, "Deflation as a method of variance reduction", arXiv:1603.05988.
"""

import torch
from torch import Tensor

from landscape.linalg.eigen import top_eigenpairs
from landscape.linalg.operator import CurvatureOperator, DerivedOperator
from landscape.storage.results import EigenPairs
from landscape.vectors import Block


class Deflated(DerivedOperator):
    """The operator on the orthogonal complement of the columns of `vectors` (P, k), 0 on these."""

    def __init__(self, operator: CurvatureOperator, vectors: Block) -> None:
        super().__init__(operator)
        self.vectors = vectors

    def outside(self, block: Block) -> Block:
        """What the block (P, K) has in the complement; twice, so that rounding leaves nothing."""
        for _ in range(2):
            block = block - self.vectors @ self.space.inner(self.vectors, block)
        return block

    def _product(self, block: Tensor) -> Tensor:
        return self.outside(self.operator.matmat(self.outside(block)))


def outlying(
    operator: CurvatureOperator, count: int, max_matvecs: int, source: torch.Generator
) -> tuple[Tensor, Block, int]:
    """Of the `count` eigenvalues of largest magnitude those that converge within the products given.

    Returns:
        Values (k,) in float64 on the CPU, vectors (P, k), and the products spent.
    """
    if count == 0:
        none = torch.empty(operator.space.own, 0, dtype=operator.dtype, device=operator.device)
        return torch.empty(0, dtype=torch.float64, device="cpu"), none, 0
    pairs = top_eigenpairs(operator, count, max_matvecs=max_matvecs, generator=source, progress=False)
    return *converged(pairs), pairs.matvecs


def converged(pairs: EigenPairs) -> tuple[Tensor, Block]:
    """Values (k,) in float64 on the CPU and vectors (P, k) of those pairs that have converged."""
    sure = pairs.converged
    return pairs.values[sure].cpu().double(), pairs.vectors[:, sure].contiguous()
