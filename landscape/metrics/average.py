"""Average-case sharpness: E L(w + e) − L(w) for Gaussian e, the mean flatness of the surroundings.

To second order it is ½ rho² Σ Tᵢ² Hᵢᵢ: the trace of the Hessian for T = 1.
Source: Andriushchenko et al. 2023, arXiv:2302.07011, section 2 (adaptive T = |w| and logit normalisation).
"""

import torch

from landscape.checks import integer_in, not_negative, one_of, positive
from landscape.metrics.logits import with_normalized_logits
from landscape.metrics.metric import measured
from landscape.problem import Problem
from landscape.side_effects import random_source
from landscape.storage.results import Estimate
from landscape.storage.results.student import calibrated_error


@measured
def average_gap(
    problem: Problem,
    *,
    rho: float = 0.05,
    geometry: str = "euclidean",
    eta: float = 0.0,
    draws: int = 20,
    normalize_logits: bool = False,
    generator: torch.Generator | None = None,
) -> Estimate:
    """Mean of L(w + e) − L(w) over e ~ N(0, rho² T²).

    Args:
        problem: the scalar function.
        rho: standard deviation, positive, in the geometry's units.
        geometry: "euclidean" T = 1 | "adaptive" T = |w| + eta, every entry.
        eta: at least 0.
        draws: random displacements, at least 2; each costs a forward pass over the data.
        normalize_logits: see `logits`.
        generator: default seed 0.
    Returns:
        Estimate with the standard error over draws.
    Raises:
        ValueError: if an argument is out of range.
    """
    positive("rho", rho)
    not_negative("eta", eta)
    one_of("geometry", geometry, ("euclidean", "adaptive"))
    integer_in("draws", draws, 2)
    if normalize_logits:
        problem = with_normalized_logits(problem)
    source, w = random_source(generator), problem.vector()
    scale = torch.ones_like(w) if geometry == "euclidean" else w.abs() + eta
    loss, gaps = problem.loss(), []
    for _ in range(draws):
        z = problem.space.normal(1, source)[0].to(w)
        gaps.append((problem.loss(w + rho * scale * z) - loss).double().cpu())
    samples = torch.stack(gaps)
    return Estimate(value=samples.mean(), stderr=calibrated_error(samples))
