"""Rényi sharpness, −H_a of the spectrum: how unevenly the curvature is spread over the eigenvalues.

H_a = log(tr|H|^a / (tr|H|)^a) / (1 − a), and for a = 1 its limit −Σ q log q with q = |λ| / tr|H|. It is highest, −H =
0, when one eigenvalue holds everything, and lowest, −log P, when all are equal. It does not see the scale of the loss.
Source: Rényi sharpness as in its authors' code; the traces by stochastic Lanczos quadrature, arXiv:1308.5467.
"""

import torch
from torch import Tensor

from landscape.checks import integer_in, one_of, positive
from landscape.cost import HESSIAN
from landscape.curvature import hessian, hessian_blocks
from landscape.isolation import random_source
from landscape.linalg import spectral_density
from landscape.metrics.measured import measured
from landscape.operator import CurvatureOperator
from landscape.problem import Problem
from landscape.results import EigenPairs, Estimate, SpectralDensity

PROBES, STEPS = 3, 15  # of the density that `analyze` shares


@measured(about=lambda own: 0.0 if own["density"] else HESSIAN * own["probes"] * own["steps"])
def renyi(
    problem: Problem,
    *,
    order: float = 2.0,
    by: str | None = None,
    probes: int = 100,
    steps: int = 15,
    density: SpectralDensity | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    """Rényi sharpness of the Hessian or of each of its layers' blocks.

    The order must be chosen before the generalisation gap is seen: choosing it afterwards is selection on the target.

    Args:
        problem: the scalar function.
        order: a, positive; the paper's .5 is for clustered spectra, 1.5 for uniform ones.
        by: None for the whole network, "layer" for one value a module, in the order of `hessian_blocks`.
        probes, steps: of the quadrature; reference 100 × 15. Where P is at most probes × steps the dense spectrum is
            cheaper and exact, and is used.
        density: the Hessian's, if known already; replaces probes and steps where `by` is None.
        generator: default seed 0.
    Returns:
        Estimate, value and stderr () or (layers,); the error is that of the quadrature's probes, not of its steps: |λ|
        has a kink at 0, so that networks should be compared at the same number.
    Raises:
        ValueError: if an argument is out of range, or the Hessian is zero.
    """
    positive("order", order)
    one_of("by", by, (None, "layer"))
    integer_in("probes", probes, 2)
    integer_in("steps", steps, 1)
    source = random_source(generator)
    if by is None:
        density = density or _spectrum(hessian(problem), probes, steps, source)
        return _negative_entropy(density, problem.size, order)
    blocks = hessian_blocks(problem).values()
    found = [_negative_entropy(_spectrum(block, probes, steps, source), block.shape[0], order) for block in blocks]
    return Estimate(
        value=torch.stack([estimate.value for estimate in found]),
        stderr=torch.stack([estimate.stderr for estimate in found]),
        matvecs=sum(estimate.matvecs for estimate in found),
    )


def shared_density(problem: Problem, pairs: EigenPairs, generator: torch.Generator | None = None) -> SpectralDensity:
    """The Hessian's density at the least cost: few probes of what the leading pairs leave."""
    operator = hessian(problem)
    if problem.size <= PROBES * STEPS:
        return _dense(operator)
    return spectral_density(operator, probes=PROBES, steps=STEPS, outliers=pairs, check=0, generator=generator)


def _spectrum(operator: CurvatureOperator, probes: int, steps: int, source: torch.Generator) -> SpectralDensity:
    if operator.shape[0] <= probes * steps:
        return _dense(operator)
    return spectral_density(operator, probes=probes, steps=steps, check=0, generator=source)


def _dense(operator: CurvatureOperator) -> SpectralDensity:
    values = torch.linalg.eigvalsh(operator.dense().double().cpu())
    shares = torch.full_like(values, 1 / len(values))
    return SpectralDensity(nodes=values[None], weights=shares[None], matvecs=len(values))


def _negative_entropy(density: SpectralDensity, size: int, order: float) -> Estimate:
    nodes, weights = density.nodes.abs(), density.weights
    first = size * (weights * nodes).sum(1)  # tr|H| by each probe
    if not bool(first.mean() > 0):
        raise ValueError("the Hessian is zero, so that its spectrum has no entropy; check the loss and the data")
    value, influence = _entropy(first, nodes, weights, order)
    count = len(first)
    stderr = influence.std() / count**0.5 if count > 1 else torch.zeros((), dtype=torch.float64)
    return Estimate(value=-value, stderr=stderr, matvecs=density.matvecs)


def _entropy(first: Tensor, nodes: Tensor, weights: Tensor, order: float) -> tuple[Tensor, Tensor]:
    """H_a and each probe's influence on it (delta method). Nodes are divided by tr|H| first: no power overflows."""
    total = first.mean()
    q = nodes / total  # shares of the curvature
    size = float(total / (weights * nodes).sum(1).mean())  # P
    if order == 1:
        logs = -size * torch.special.xlogy(q, q).mul(weights).sum(1)
        # for shares that add up to s, H = log s − Σ q log q / s; the influences are its derivative at s = 1
        return logs.mean(), logs - (logs.mean() - 1) * first / total
    power = size * (weights * q**order).sum(1)
    return power.mean().log() / (1 - order), (power / power.mean() - order * first / total) / (1 - order)
