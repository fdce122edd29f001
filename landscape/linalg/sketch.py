"""The range sketch that XTrace, Hutch++ and XDiag share: Y = A Ω = Q R, and what is left of Q without a test vector.

Without column i the sketch spans the part of range(Q) that is orthogonal to Q sᵢ, with sᵢ the unit vector in R's rows'
space orthogonal to all other columns of R. Where Y has fewer independent columns than test vectors, a column that the
others can replace takes nothing away: sᵢ = 0, and estimates that are exact for low rank stay exact.
Source: Epperly, Tropp and Webber 2024, "XTrace: making the most of every sample", arXiv:2301.07825, section 2.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from landscape.linalg.lanczos import breakdown_level
from landscape.linalg.operator import CurvatureOperator
from landscape.processes.space import Space
from landscape.vectors import Block


@dataclass(frozen=True, eq=False)
class Sketch:
    """Q R = A Ω and A Q, from m + r products."""

    probes: Tensor  # Ω (P, m)
    images: Tensor  # A Ω (P, m)
    basis: Tensor  # Q (P, r), orthonormal
    basis_images: Tensor  # A Q (P, r)
    space: Space  # of the columns

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What a sketch that is taken up later is made of, besides the space."""
        return {name: getattr(self, name) for name in ("probes", "images", "basis", "basis_images")}

    @property
    def matvecs(self) -> int:
        """Products spent, m + r."""
        return self.images.shape[1] + self.basis_images.shape[1]

    @cached_property
    def left_out(self) -> Tensor:
        """(r, m), column i is sᵢ ∝ (R Rᵀ)⁻¹ rᵢ; 0 where the leverage rᵢᵀ (R Rᵀ)⁻¹ rᵢ is below 1: others replace it."""
        left, singular, right = torch.linalg.svd(self.space.inner(self.basis, self.images), full_matrices=False)
        leverage = right.square().sum(0)
        dual = right / torch.where(singular > 0, singular, 1)[:, None]
        norms = dual.norm(dim=0)
        # measured: 8 eps for up to 128 independent columns of any scale, at least 1e7 eps where one can be replaced
        replaceable = (leverage < 1 - 100 * torch.finfo(right.dtype).eps) | (norms == 0)
        dual = torch.where(replaceable, torch.zeros_like(dual), dual / torch.where(norms > 0, norms, 1))
        return left @ dual


def sketch(operator: CurvatureOperator, probes: Block, earlier: Sketch | None = None) -> Sketch:
    """Sketch the operator's range with the columns of `probes` (P, m), or add them; at most 2 m products."""
    images, space = operator.matmat(probes), operator.space
    if earlier is None:
        basis = _directions(operator, images, images, least=1)
        return Sketch(probes, images, basis, operator.matmat(basis), space)
    known = earlier.basis
    rest = images - known @ space.inner(known, images)
    fresh = _directions(operator, rest - known @ space.inner(known, rest), images, least=0)
    fresh = space.qr(fresh - known @ space.inner(known, fresh))[0]
    fresh_images = operator.matmat(fresh) if fresh.shape[1] else fresh
    pairs = ((earlier.probes, probes), (earlier.images, images), (known, fresh), (earlier.basis_images, fresh_images))
    joined = [torch.cat(pair, dim=1) for pair in pairs]
    return Sketch(joined[0], joined[1], joined[2], joined[3], space)


def _directions(operator: CurvatureOperator, block: Tensor, images: Tensor, least: int) -> Tensor:
    """Orthonormal basis of the block's columns (P, r), without what is rounding beside the images."""
    basis, singular, _ = operator.space.svd(block)
    largest = torch.linalg.matrix_norm(operator.space.qr(images)[1] if operator.space.dealt_out else images, 2)
    rank = int((singular > breakdown_level(operator, largest)).sum())
    return basis[:, : max(least, rank)]
