"""Stochastic Lanczos quadrature: what random probes say of the spectrum, after the outliers have been taken out.

For a random unit vector v, vᵀ f(A) v ≈ Σⱼ τⱼ² f(θⱼ) with Ritz values θⱼ of m Lanczos steps and τⱼ the first entries of
T's eigenvectors; its mean over v is tr f(A) / P. The leading n × n part of T is the quadrature of n steps.
Source: Ubaru, Chen and Saad 2017, "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature", Algorithm 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.linalg.deflation import Deflated, converged, outlying
from landscape.linalg.lanczos import lanczos
from landscape.linalg.operator import CurvatureOperator
from landscape.linalg.outliers import detect_outliers
from landscape.linalg.probe_checkpoint import ProbeCheckpoint
from landscape.linalg.probes import gaussian
from landscape.linalg.scaled import Scaled
from landscape.storage.results import EigenPairs
from landscape.vectors import Block

BASIS_BYTES = 2**31  # Lanczos bases held at once, our choice; probes beyond it run one group after another
KEPT = 2  # probes between two states that are kept, or as many as the operator likes best


@dataclass(frozen=True, eq=False)
class Quadrature:
    """One tridiagonal T a probe for the rest of the spectrum, and the eigenvalues found one by one."""

    diagonal: Tensor  # (probes, m), float64 on the CPU
    offdiagonal: Tensor  # (probes, m)
    lengths: Tensor  # (probes,), steps before the Krylov space closed
    outliers: Tensor  # (k,)
    matvecs: int

    def rules(self, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Nodes and weights (n,) of each probe with at most so many steps; the weights sum to 1."""
        for diagonal, offdiagonal, length in zip(self.diagonal, self.offdiagonal, self.lengths.tolist(), strict=True):
            n = min(steps, length)
            off = offdiagonal[: n - 1]
            nodes, vectors = torch.linalg.eigh(torch.diag(diagonal[:n]) + torch.diag(off, 1) + torch.diag(off, -1))
            weights = vectors[0] ** 2
            yield nodes, weights / weights.sum()


def quadrature(
    operator: Scaled,
    probes: int,
    steps: int,
    outliers: int | str | EigenPairs,
    max_matvecs: int,
    checkpoint: ProbeCheckpoint,
) -> Quadrature:
    """Run the probes, in groups that fit in memory, or from a kept state on those that are missing.

    `outliers` are so many, or "auto": those that stand clear, or pairs that are known.
    """
    size = operator.shape[0]
    state = checkpoint.load()
    if not state:
        values, vectors, spent = _taken_out(operator, outliers, max_matvecs, checkpoint.source)
        none = torch.empty(0, min(steps, size - len(values)), dtype=torch.float64, device="cpu")
        state = {
            "values": values,
            "vectors": vectors,
            "spent": torch.tensor(spent, device="cpu"),
            "lengths": none[:, 0].long(),
        }
        state |= {"starts": gaussian(operator, probes, checkpoint.source), "diagonal": none, "offdiagonal": none}
        checkpoint.save(state)
    steps = state["diagonal"].shape[1]
    widest = int(operator.space.largest(max(1, operator.space.own)))  # or processes would go in other groups, and wait
    fitting = max(1, BASIS_BYTES // (steps * widest * torch.finfo(operator.dtype).bits // 8))
    group = fitting if checkpoint.path is None else min(fitting, max(KEPT, operator.columns))
    for first in range(len(state["lengths"]), probes, group):
        state |= _run(operator, state, first, group)
        checkpoint.save(state)
    spent = int(state["spent"]) + probes * steps
    diagonal, offdiagonal, lengths, values = (
        state[name].cpu() for name in ("diagonal", "offdiagonal", "lengths", "values")
    )
    return Quadrature(diagonal, offdiagonal, lengths, values, spent)


def _taken_out(
    operator: Scaled, outliers: int | str | EigenPairs, max_matvecs: int, source: torch.Generator
) -> tuple[Tensor, Block, int]:
    """Outliers, (k,) and (P, k), and the products spent on them here."""
    if isinstance(outliers, EigenPairs):
        values, vectors = converged(outliers)
        return operator.taken(values), vectors, 0
    if isinstance(outliers, int):
        return outlying(operator, outliers, max_matvecs, source)
    return detect_outliers(operator, max_matvecs, source)


def _run(operator: CurvatureOperator, state: dict[str, Tensor], first: int, group: int) -> dict[str, Tensor]:
    """The rows of `group` probes more."""
    rest, starts = operator, state["starts"][:, first : first + group]
    if state["vectors"].shape[1]:
        rest = Deflated(operator, state["vectors"])
        starts = rest.outside(starts)
    runs = lanczos(rest, starts, state["diagonal"].shape[1])
    names = ("diagonal", "offdiagonal", "lengths")
    return {name: torch.cat([state[name].cpu(), getattr(runs, name)]) for name in names}
