"""The classical PAC-Bayes bound, of the error of a Gaussian around the weights.

With probability 1 − δ, for all Q at once,  E_Q err_D <= E_Q err_S + sqrt((KL(Q ‖ P) + log(n/δⱼ)) / (2(n − 1))), where
P = N(centre, c exp((1 − j)/k) I), j = 1, 2, ..., and δⱼ = 6δ/(π²j²), so that the best P may be picked afterwards.
Q = N(w, σ²I), or along the ellipsoid of the Fisher matrix F, Q = N(w, (F/σ² + I/σ_P²)⁻¹) with the prior's variance
σ_P²: where F says nothing, Q is as wide as P. With r the variances of Q along F's axes over the prior's,
KL = ½(Σ(r − 1 − log r) + |w − centre|²/σ_P²); Σ log r is a log-determinant of F.
Source: McAllester 1999; the priors as in Foret et al. 2021, arXiv:2010.01412, Appendix A. That Q follows the Fisher
matrix is the idea of Kim et al. 2022, arXiv:2206.04920, Theorem 3.2; this is not their bound, whose priors lie on a
covering of the parameters.
"""

from collections.abc import Sequence
from math import log, pi, sqrt

import torch
from torch import Tensor

from landscape.checks import integer_in, one_of, positive, require
from landscape.curvature import fisher
from landscape.metrics.margins import margins
from landscape.metrics.metric import measured
from landscape.problem import Problem
from landscape.side_effects import random_source
from landscape.storage.results import Estimate
from landscape.storage.results.student import calibrated_error
from landscape.vectors import Vector, normal_like

LARGEST = 1.0  # c, the variance of the widest prior: above that of any layer at the start of a training
SPAN, COUNT = 20.0, 2001  # priors that are tried have variances from c to c e⁻²⁰, so many
DENSE = 5000  # parameters, at most, of a dense Fisher matrix


@measured
def pac_bayes_gaussian(
    problem: Problem,
    *,
    sigma: float | Sequence[float] = 0.05,
    covariance: str = "isotropic",
    centre: Vector | None = None,
    delta: float = 0.05,
    draws: int = 20,
    generator: torch.Generator | None = None,
) -> Estimate:
    """Bound on the test error of a network drawn from Q, not of w itself.

    Args:
        problem: the scalar function, of classes; its data are the n samples that w was trained on.
        sigma: of Q, positive; in the weights' units, or for "fisher" that of F^½ (w' − w), which has none. Of several
            the one with the lowest bound is taken: it holds for all at once.
        covariance: "isotropic" | "fisher", the exact Fisher matrix, dense.
        centre: of the priors, chosen without the data, such as the weights before training, (P,); default 0.
        delta: probability that the bound fails, in (0, 1).
        draws: networks drawn from Q, at least 2; each costs a forward pass.
        generator: default seed 0.
    Returns:
        Estimate with the standard error over draws of E_Q err_S; details: error, that mean, complexity, kl, sigma,
        prior_variance, vacuous (1 where the value is at least 1).
    Raises:
        ValueError: if an argument is out of range, the problem is no classification, or P is above 5,000 for "fisher".
    """
    sigmas = [float(own) for own in (sigma if isinstance(sigma, Sequence) else [sigma])]
    require(len(sigmas) > 0, "sigma must hold at least one value, got none")
    for own in sigmas:
        positive("sigma", own)
    one_of("covariance", covariance, ("isotropic", "fisher"))
    require(0 < delta < 1, f"delta must be in (0, 1), got {delta!r}")
    integer_in("draws", draws, 2)
    w, source = problem.vector(), random_source(generator)
    distance = float((w if centre is None else w - centre).double().square().sum())
    values, axes = _fisher_axes(problem) if covariance == "fisher" else (None, None)
    z = [normal_like(w, source) for _ in range(draws)]
    n = round(sum(units for _, _, units in problem.batches_with_units()))
    found = []
    for own in sigmas:
        kl, variance, index = nearest_prior(own, values, distance, w.numel(), n)
        spread = (variance * shares(own, torch.tensor([variance]), values)[0]).sqrt().to(w)  # (P,) or (1,)
        moved = (spread * e if axes is None else axes @ (spread * e) for e in z)
        errors = torch.stack([(margins(problem, w + e) <= 0).double().mean() for e in moved])
        complexity = sqrt((kl + log_inverse_delta(index, n, delta)) / (2 * (n - 1)))
        found.append(
            Estimate(
                value=errors.mean() + complexity,
                stderr=calibrated_error(errors),
                details={"error": float(errors.mean()), "complexity": complexity, "kl": kl, "sigma": own}
                | {"prior_variance": variance, "vacuous": float(errors.mean() + complexity >= 1)},
            )
        )
    return min(found, key=lambda estimate: float(estimate.value))


def nearest_prior(sigma: float, values: Tensor | None, distance: float, k: int, n: int) -> tuple[float, float, int]:
    """KL(Q ‖ P), variance and index j of the prior with the lowest bound.

    Args:
        sigma: of Q.
        values: F's eigenvalues, (k,); None for σ²I.
        distance: |w − centre|².
        k: parameters.
        n: samples.
    """
    index = (1 + k * torch.linspace(0, SPAN, COUNT, dtype=torch.float64)).round().unique()
    variance = LARGEST * ((1 - index) / k).exp()
    r = shares(sigma, variance, values)
    terms = (r - 1 - r.log()).sum(1) * (k / r.shape[1])
    kl = 0.5 * (terms + distance / variance)
    best = int((kl + 2 * index.log()).argmin())
    return float(kl[best]), float(variance[best]), int(index[best])


def shares(sigma: float, variance: Tensor, values: Tensor | None) -> Tensor:
    """r, the variances of Q over those of each prior, (priors, k), or (priors, 1) where all are equal."""
    if values is None:
        return sigma**2 / variance[:, None].double()
    return 1 / (1 + variance[:, None].double() * values / sigma**2)


def log_inverse_delta(index: int, n: int, delta: float) -> float:
    """log(n/δⱼ)."""
    return log(n * pi**2 * index**2 / (6 * delta))


def _fisher_axes(problem: Problem) -> tuple[Tensor, Tensor]:
    """F's eigenvalues (P,), in float64, and eigenvectors (P, P)."""
    require(
        problem.size <= DENSE,
        f"covariance='fisher' needs a dense matrix, of at most {DENSE} parameters, got {problem.size}; try 'isotropic'",
    )
    values, axes = torch.linalg.eigh(fisher(problem).dense().double())
    return values.clamp(min=0), axes.to(problem.vector())
