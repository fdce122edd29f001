"""The range sketch that XTrace and XDiag share: Y = A Ω = Q R, and what is left of Q when one test vector is left out.

Without column i the sketch spans the part of range(Q) that is orthogonal to Q sᵢ, with sᵢ the unit vector in R's rows'
space orthogonal to all other columns of R. Where Y has fewer independent columns than test vectors, a column that the
others can replace takes nothing away: sᵢ = 0, and estimates that are exact for low rank stay exact.
Source: Epperly, Tropp and Webber 2024, "XTrace: making the most of every sample", arXiv:2301.07825, section 2.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.linalg.lanczos import breakdown_level
from landscape.operator import CurvatureOperator
from landscape.vectors import Block


@dataclass(frozen=True, eq=False)
class Sketch:
    """Q R = A Ω and A Q, from m + r products."""

    probes: Tensor  # Ω (P, m)
    images: Tensor  # A Ω (P, m)
    basis: Tensor  # Q (P, r), orthonormal
    basis_images: Tensor  # A Q (P, r)
    left_out: Tensor  # (r, m), column i is sᵢ

    @property
    def matvecs(self) -> int:
        """Products spent, m + r."""
        return self.images.shape[1] + self.basis_images.shape[1]


def sketch(operator: CurvatureOperator, probes: Block) -> Sketch:
    """Sketch the operator's range with the columns of `probes` (P, m); at most 2 m products."""
    images = operator.matmat(probes)
    basis, singular, right = torch.linalg.svd(images, full_matrices=False)
    rank = max(1, int((singular > breakdown_level(operator, singular.max())).sum()))
    basis, singular, right = basis[:, :rank], singular[:rank], right[:rank]
    return Sketch(probes, images, basis, operator.matmat(basis), _left_out(singular, right))


def _left_out(singular: Tensor, right: Tensor) -> Tensor:
    """sᵢ ∝ (R Rᵀ)⁻¹ rᵢ for columns whose leverage rᵢᵀ (R Rᵀ)⁻¹ rᵢ is 1, that is, which no others replace."""
    leverage = right.square().sum(0)
    dual = right / torch.where(singular > 0, singular, 1)[:, None]
    norms = dual.norm(dim=0)
    replaceable = (leverage < 1 - 100 * torch.finfo(right.dtype).eps) | (norms == 0)
    return torch.where(replaceable, torch.zeros_like(dual), dual / torch.where(norms > 0, norms, 1))
