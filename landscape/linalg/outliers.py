"""How many eigenvalues stand clear of the bulk, told by one Lanczos run from a random vector.

The run's nodes θ₁ < ... < θₙ with weights τⱼ² are a quadrature of the spectrum. The l lowest and r highest of them are
outliers if, with σ the weighted standard deviation of the rest,
    on either side the gap to the rest is wider than σ, and
    they weigh as much as q = l + r single eigenvalues: P Σ τⱼ² <= q + 2 √(3 q) + 6.
Of all such (l, r) that of most outliers is taken, and of these the Ritz pairs that have converged. Scaling the operator
or adding a multiple of the identity changes nothing. In a bulk alone, gaps are far below σ.
Source: the rule is our own; P Σ τⱼ² is a χ² of q degrees of freedom, and above the bound with probability e⁻³ at most:
Laurent and Massart 2000, "Adaptive estimation of a quadratic functional by model selection", Lemma 1.
"""

from itertools import product
from math import sqrt

import torch
from torch import Tensor

from landscape.linalg.lanczos import lanczos
from landscape.linalg.operator import CurvatureOperator
from landscape.linalg.probes import gaussian
from landscape.vectors import Block

CLEAR = 1.0  # widths of a gap, in standard deviations of the rest
MISS = 3.0  # −log of the chance that single eigenvalues weigh more than the bound
TOL = 1e-4  # of a converged pair's residual, as in `top_eigenpairs`


def detect_outliers(
    operator: CurvatureOperator, max_matvecs: int, source: torch.Generator
) -> tuple[Tensor, Block, int]:
    """The outliers, at most max_matvecs / 2 of them, from min(max_matvecs, P) products.

    Returns:
        Values (k,) in float64 on the CPU, largest magnitude first, vectors (P, k), and the products spent.
    """
    steps = min(max_matvecs, operator.shape[0])
    run = lanczos(operator, gaussian(operator, 1, source), steps)
    n = int(run.lengths[0])
    nodes, coordinates = torch.linalg.eigh(run.matrix(0))
    low, high = _sides(nodes, operator.shape[0] * coordinates[0] ** 2, max_matvecs // 2)
    converged = run.offdiagonal[0, n - 1] * coordinates[-1].abs() <= TOL * nodes.abs()
    converged[low : n - high] = False
    chosen = converged.nonzero()[:, 0]
    chosen = chosen[nodes[chosen].abs().argsort(descending=True)]
    return nodes[chosen], run.basis[0, :n].T @ coordinates[:, chosen].to(run.basis), steps


def _sides(nodes: Tensor, counts: Tensor, most: int) -> tuple[int, int]:
    """How many of the lowest and of the highest nodes are outliers; a node stands for `counts` eigenvalues."""
    n = len(nodes)
    sides = [(low, high) for low, high in product(range(n), repeat=2) if 0 < low + high <= min(most, n - 1)]
    for low, high in sorted(sides, key=sum, reverse=True):
        rest, share = nodes[low : n - high], counts[low : n - high] / counts[low : n - high].sum()
        sigma = (share * (rest - (share * rest).sum()) ** 2).sum().sqrt()
        outside = torch.cat([nodes[low - 1 : low + 1].diff(), nodes[n - high - 1 : n - high + 1].diff()])
        few = counts.sum() - counts[low : n - high].sum() <= low + high + 2 * sqrt(MISS * (low + high)) + 2 * MISS
        if few and (outside > CLEAR * sigma).all():
            return low, high
    return 0, 0
