"""How the loss rises as the weights are moved further: at random, and along the gradient.

Source: Foret et al. 2021, arXiv:2010.01412; the pair of curves as a test of robustness to corrupted parameters.
"""

from collections.abc import Sequence

import torch

from landscape.checks import integer_in, positive, require
from landscape.metrics.metric import Origin, measured
from landscape.problem import Problem
from landscape.side_effects import random_source
from landscape.storage.results import Estimate
from landscape.storage.results.student import calibrated_error
from landscape.vectors import normal_like, unit


@measured
def random_corruption(
    problem: Problem, sigmas: Sequence[float], *, draws: int = 20, generator: torch.Generator | None = None
) -> Estimate:
    """E L(w + sigma z) − L(w) for each sigma, z ~ N(0, I), the same draws for all.

    Args:
        problem: the scalar function.
        sigmas: standard deviations, positive.
        draws: at least 2; each costs len(sigmas) forward passes.
        generator: default seed 0.
    Returns:
        Estimate, (len(sigmas),), with the standard error over draws.
    Raises:
        ValueError: if an argument is out of range.
    """
    _check("sigmas", sigmas)
    integer_in("draws", draws, 2)
    source, w, loss = random_source(generator), problem.vector(), problem.loss()
    samples = []
    for _ in range(draws):
        z = normal_like(w, source)
        samples.append(torch.stack([problem.loss(w + sigma * z) - loss for sigma in sigmas]).double().cpu())
    rises = torch.stack(samples)  # (draws, sigmas)
    return Estimate(value=rises.mean(0), stderr=calibrated_error(rises))


@measured
def adversarial_corruption(problem: Problem, rhos: Sequence[float], *, origin: Origin | None = None) -> Estimate:
    """L(w + rho ĝ) − L(w) for each rho, (len(rhos),), stderr 0: the surrogate gap as a curve.

    The first-order maximiser of each ball and no more; the maxima are `worst_case_gap` at each rho.

    Raises:
        ValueError: if a rho is not positive.
    """
    _check("rhos", rhos)
    loss, g = origin or problem.loss_and_gradient()
    w, along = problem.vector(), unit(g)
    rises = torch.stack([problem.loss(w + rho * along) - loss for rho in rhos]).double().cpu()
    return Estimate.exact(rises)


def _check(name: str, values: Sequence[float]) -> None:
    require(len(values) > 0, f"{name} must hold at least one number, got none")
    for value in values:
        positive(name, value)
