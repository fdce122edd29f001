"""Spectral density by stochastic Lanczos quadrature.

For a random unit vector v, vᵀ f(A) v ≈ Σⱼ τⱼ² f(θⱼ) with Ritz values θⱼ of m Lanczos steps and τⱼ the first entries of
T's eigenvectors; its mean over v is tr f(A) / P. Each probe is kept as a row, so that its spread can be shown.
Source: Lin, Saad and Yang 2016, arXiv:1308.5467; Ghorbani et al. 2019, arXiv:1901.10159.
"""

import torch
from torch import Tensor

from landscape.checks import integer_in
from landscape.isolation import random_source
from landscape.linalg.lanczos import Tridiagonal, lanczos
from landscape.linalg.probes import gaussian
from landscape.operator import CurvatureOperator
from landscape.results import SpectralDensity

BASIS_BYTES = 2**31  # Lanczos bases held at once; probes beyond it run one group after another


def spectral_density(
    operator: CurvatureOperator,
    *,
    probes: int = 8,
    steps: int = 64,
    generator: torch.Generator | None = None,
) -> SpectralDensity:
    """Density of the eigenvalues of a symmetric operator.

    Args:
        operator: symmetric, (P, P).
        probes: random starting vectors; they share the passes over the data as far as memory goes.
        steps: Lanczos steps a probe; products in all: probes · min(steps, P).
        generator: for the probes; default seed 0.
    Returns:
        SpectralDensity: nodes and weights (probes, steps), each row's weights summing to 1. Where a Krylov space closed
        before `steps`, the remaining weights are 0 and the nodes repeat the last value.
    Raises:
        ValueError: if probes or steps is below 1, or the operator gives NaN or infinity.
    """
    integer_in("probes", probes, 1)
    integer_in("steps", steps, 1)
    starts = gaussian(operator, probes, random_source(generator))
    group = max(1, BASIS_BYTES // (min(steps, operator.shape[0]) * operator.shape[0] * starts.element_size()))
    nodes, weights = torch.zeros(2, probes, steps, dtype=torch.float64)
    for first in range(0, probes, group):
        runs = lanczos(operator, starts[:, first : first + group], steps)
        for row in range(runs.diagonal.shape[0]):
            nodes[first + row], weights[first + row] = _quadrature(runs, row, steps)
    return SpectralDensity(nodes=nodes, weights=weights, matvecs=probes * min(steps, operator.shape[0]))


def _quadrature(runs: Tridiagonal, row: int, steps: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of one probe, padded to `steps`."""
    values, vectors = torch.linalg.eigh(runs.matrix(row))
    n = len(values)
    nodes = torch.cat([values, values[-1:].expand(steps - n)])
    weights = torch.zeros(steps, dtype=torch.float64)
    weights[:n] = vectors[0] ** 2
    return nodes, weights / weights.sum()
