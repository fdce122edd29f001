"""XTrace: every test vector both sketches the range and measures the rest, left out of its own sketch.

tr(A) ≈ mean Xᵢ with Xᵢ = tr(QᵢᵀA Qᵢ) + cᵢ ωᵢᵀ (I − QᵢQᵢᵀ) A (I − QᵢQᵢᵀ) ωᵢ, where Qᵢ is the sketch without ωᵢ.
The Xᵢ share most of their sketches, and their spread alone is too small an error. How much they vary together is known:
with Xᵢ₋ⱼ from the sketch without ωⱼ as well, Cov(Xᵢ, Xⱼ) = E[(Xᵢ − Xᵢ₋ⱼ)(Xⱼ − Xⱼ₋ᵢ)], because each Xᵢ has mean tr(A)
whatever the other test vectors are. No further product is needed for it.
Source: Epperly, Tropp and Webber 2024, arXiv:2301.07825, section 2.3; the covariance is derived here.
"""

import torch
from torch import Tensor

from landscape.linalg.sketch import Sketch
from landscape.storage.results import Estimate, standard_error
from landscape.storage.results.student import widening

ROWS = 2**20  # widened to float64 at once


def xtrace(found: Sketch, *, squared: bool = False) -> Estimate:
    """tr(A), or tr(A²), and its standard error from a sketch whose test vectors are on the sphere of radius sqrt(P)."""
    left_out = _LeaveOut(found, squared)
    samples = left_out.one()
    changes = samples - left_out.two()  # [j, i] is Xᵢ − Xᵢ₋ⱼ
    return Estimate(
        value=samples.mean().cpu(), stderr=leave_one_out_error(samples, changes).cpu(), matvecs=found.matvecs
    )


def leave_one_out_error(samples: Tensor, changes: Tensor) -> Tensor:
    """Standard error of the mean of m leave-one-out estimates: Var = (spread)² / m + covariance.

    Args:
        samples: (m,).
        changes: (m, m), what estimate i changes by when j is left out as well, 0 on the diagonal.
    """
    count = len(samples)
    return combined_error(standard_error(samples), (changes * changes.T).sum() / (count * (count - 1)), count)


def combined_error(spread: Tensor, covariance: Tensor, count: int) -> Tensor:
    """sqrt(spread² + covariance), widened: m samples hold m / 2 disjoint pairs; below 0 the covariance is noise."""
    return (spread.square() + covariance.clamp(min=0)).sqrt() * widening(max(1, count // 2))


class _LeaveOut:
    """Xᵢ and Xᵢ₋ⱼ from m × m matrices alone, in float64: w = Qᵀ Ω, H = Qᵀ A Q or Qᵀ A² Q, S = (sᵢ)."""

    def __init__(self, found: Sketch, squared: bool) -> None:
        basis, probes = (found.basis_images, found.images) if squared else (found.basis, found.probes)
        self.S = found.left_out.double()  # (r, m)
        self.present = self.S.square().sum(0).round()  # (m,), 1, or 0 where the others replace it
        space, self.size, self.rank = found.space, found.space.size, found.basis.shape[1]
        self.H = space.inner(basis, found.basis_images).double()
        self.w = space.inner(found.basis, found.probes).double()
        self.p = self.w - self.S * _columns(self.S, self.w)  # coordinates of ωᵢ in its own sketch
        self.crossed = space.inner(found.basis_images, probes).double()  # Qᵀ A ω or Qᵀ A² ω
        lengths = space.added(wide_columns(found.probes, found.probes))
        self.outside = lengths - self.p.square().sum(0)  # |(I − QᵢQᵢᵀ) ωᵢ|²
        forms = space.added(wide_columns(probes, found.images))
        self.rest = forms - 2 * _columns(self.crossed, self.p) + _columns(self.p, self.H @ self.p)
        self.within = self.H.trace() - _columns(self.S, self.H @ self.S)

    def one(self) -> Tensor:
        """Xᵢ (m,); the rest is scaled back to the sphere of what its sketch does not hold."""
        return self.within + (self.size - self.rank + self.present) / self.outside * self.rest

    def two(self) -> Tensor:
        """Xᵢ₋ⱼ at [j, i]; Xᵢ on the diagonal. Leaving j out takes v = (sⱼ − g sᵢ) / |…| from the sketch without i."""
        g = self.S.T @ self.S
        squared = (1 - g.square()).clamp(min=torch.finfo(g.dtype).eps).fill_diagonal_(1)
        S_H_S = self.S.T @ self.H @ self.S
        own = S_H_S.diagonal()
        v_H_v = (own[:, None] - 2 * g * S_H_S + g.square() * own) / squared

        def along_v(products: Tensor) -> Tensor:  # vᵀ x at [j, i] from sⱼᵀ xᵢ
            return (products - g * products.diagonal()) / squared.sqrt()

        v_p = along_v(self.S.T @ self.w)
        v_residual = along_v(self.S.T @ (self.crossed - self.H @ self.p))
        rest = self.rest + 2 * v_p * v_residual + v_p.square() * v_H_v
        rank = self.rank - self.present - self.present[:, None]
        without = self.within - v_H_v + (self.size - rank) / (self.outside + v_p.square()) * rest
        alone = (self.present[:, None] == 0) | torch.eye(len(g), dtype=torch.bool, device=g.device)
        return torch.where(alone, self.one(), without)


def wide_columns(a: Tensor, b: Tensor) -> Tensor:
    """The same in float64, of some rows at a time: whole blocks in float64 would be twice the sketch itself."""
    parts = [_columns(x.double(), y.double()) for x, y in zip(a.split(ROWS), b.split(ROWS), strict=True)]
    return torch.stack(parts).sum(0)


def _columns(a: Tensor, b: Tensor) -> Tensor:
    """aᵢᵀ bᵢ for each column."""
    return (a * b).sum(0)
