"""Where the gradient points: along the gradient of the perturbed network, and along the sharpest direction.

Source: Zhuang et al. 2022, arXiv:2203.08065, section 4 (the angle between both gradients); Wen et al. 2023,
arXiv:2211.05729 (SAM's perturbation aligns with the top eigenvector).
"""

import torch
from torch.nn import functional as F

from landscape.checks import positive
from landscape.metrics.metric import Origin, measured
from landscape.metrics.spectral import leading_pairs
from landscape.problem import Problem
from landscape.storage.results import EigenPairs, Estimate
from landscape.vectors import unit


@measured
def gradient_cosine(
    problem: Problem, *, rho: float = 0.05, origin: Origin | None = None, generator: torch.Generator | None = None
) -> Estimate:
    """cos(∇L(w), ∇L(w + rho ĝ)); 1 at a stationary point, where nothing is perturbed.

    Args:
        problem: the scalar function.
        rho: radius, positive.
        origin: loss and gradient at w, if known already.
        generator: not used; for the common signature.
    Raises:
        ValueError: if rho is not positive.
    """
    positive("rho", rho)
    _, g = origin or problem.loss_and_gradient()
    if not bool(g.any()):
        return Estimate.exact(1.0)
    perturbed = problem.gradient(problem.vector() + rho * unit(g))
    return Estimate.exact(float(F.cosine_similarity(g.double(), perturbed.double(), dim=0)))


@measured
def eigenvector_alignment(
    problem: Problem,
    *,
    origin: Origin | None = None,
    pairs: EigenPairs | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    """|ĝ · v₁|: how far SAM's perturbation, along the gradient, is the sharpest direction; 0 at a stationary point.

    Args:
        problem: the scalar function.
        origin: loss and gradient at w, if known already.
        pairs: `leading_pairs(problem)`, if known already.
        generator: for the Lanczos start; default seed 0.
    Returns:
        Estimate in [0, 1]; stderr is the residual over the gap to the next eigenvalue, at most 1, which bounds the
        angle by which v₁ is off. Details: converged.
    """
    _, g = origin or problem.loss_and_gradient()
    pairs = pairs or leading_pairs(problem, generator)
    gap = (pairs.values[0] - pairs.values[1]).abs() if len(pairs.values) > 1 else pairs.values[0].abs()
    stderr = (pairs.residuals[0] / gap.clamp(min=torch.finfo(gap.dtype).tiny)).clamp(max=1)
    value = (unit(g) @ pairs.vectors[:, 0]).abs()
    details = {"converged": float(pairs.converged[0])}
    return Estimate(value.double().cpu(), stderr.double().cpu(), pairs.matvecs, details)
