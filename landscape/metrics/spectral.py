"""Sharpness read off the spectrum of the Hessian, some of it also of the Gauss-Newton matrix.

lambda_max and lambda_max / lambda_5 come from the leading eigenpairs; the Frobenius norm and the number of eigenvalues
above a threshold from the spectral density, which the Rényi sharpness shares; the trace has products of its
own.
By layer: `landscape.curvature.block_spectra`.
Source: Keskar et al. 2017, arXiv:1609.04836; Jastrzebski et al. 2020, arXiv:2002.09572 (the ratio); Foret et al. 2021.
"""

from dataclasses import replace
from typing import Any

import torch

from landscape.checks import integer_in, positive
from landscape.curvature import ggn, hessian
from landscape.linalg import spectral_density, top_eigenpairs
from landscape.linalg import trace as operator_trace
from landscape.linalg.frobenius import frobenius_norm_of
from landscape.linalg.operator import CurvatureOperator
from landscape.linalg.probe_error import spectral_sum
from landscape.metrics.metric import Origin, measured
from landscape.problem import Problem
from landscape.problem.cost import GRADIENT, HESSIAN, Range
from landscape.side_effects import random_source
from landscape.storage.results import EigenPairs, Estimate, SpectralDensity

PROBES, STEPS = 3, 14  # of `whole_density`: as many as leave all of METRICS below 500 gradient-times
LARGE, SMALL_BASIS = 2**26, 20  # weights from which the basis has 20 vectors, not 40: 10 of 20 GB for GPT-2, our choice
# Products to five pairs, measured on 13 small networks in 25 states: 12-25 trained, 25-60 as initialised. A basis of 20
# takes up to 1.2 times as many, of 400 as many as of 40; GPT-2 took 66. Where no graph is kept, each costs 3.
FEWEST, MOST, RESTARTED = 10, 64, 1.25
TOL = 1e-3  # of a residual: the eigenvalue itself is off by residual² / gap (Parlett 1998, section 11.7)


def leading_pairs(problem: Problem, generator: torch.Generator | None = None) -> EigenPairs:
    """The five largest eigenvalues of the Hessian, which every metric of the top of the spectrum shares."""
    H, k, basis = hessian(problem), min(5, problem.size), None if problem.size < LARGE else SMALL_BASIS
    return top_eigenpairs(H, k, which="LA", tol=TOL, basis_size=basis, generator=generator, progress=False)


def pairs_cost(*, size: int, **_: object) -> Range:
    """Gradient-times of `leading_pairs` of so many weights, from a well separated spectrum to one just initialised."""
    most = MOST if size < LARGE else RESTARTED * MOST
    return Range(min(FEWEST, size), min(most, size)) * HESSIAN + GRADIENT


def whole_density(
    problem: Problem,
    generator: torch.Generator | None = None,
    *,
    pairs: EigenPairs | None = None,
    probes: int = PROBES,
    steps: int = STEPS,
) -> SpectralDensity:
    """The Hessian's density, which every metric of the whole spectrum shares; exact where P <= probes * steps.

    The leading pairs, found first where they are not known, have their exact weights: the probes see only the rest. On
    a fitted convolutional network three probes alone gave a Frobenius norm 33 % off, and 1 % with the pairs.
    """
    source, known = random_source(generator), pairs
    if known is None and problem.size > probes * steps:
        known = leading_pairs(problem, source)
    density = quadrature_or_exact(hessian(problem), probes, steps, source, known)
    own = 0 if known is None or known is pairs else known.matvecs
    return replace(density, matvecs=density.matvecs + own)


def quadrature_or_exact(
    operator: CurvatureOperator, probes: int, steps: int, source: torch.Generator, pairs: EigenPairs | None = None
) -> SpectralDensity:
    """Stochastic Lanczos quadrature, or where P products are fewer the dense spectrum as a density of one row."""
    size = operator.shape[0]
    if size > probes * steps:
        how: dict[str, Any] = {"outliers": 0 if pairs is None else pairs, "check": 0, "progress": False}
        return spectral_density(operator, probes=probes, steps=steps, generator=source, **how)
    values = torch.linalg.eigvalsh(operator.dense().double().cpu())
    return SpectralDensity(nodes=values[None], weights=torch.full_like(values, 1 / size)[None], matvecs=size)


@measured
def lambda_max(
    problem: Problem, *, pairs: EigenPairs | None = None, generator: torch.Generator | None = None
) -> Estimate:
    """Largest eigenvalue of the Hessian; stderr is its residual bound.

    Args:
        problem: the scalar function.
        pairs: `leading_pairs(problem)`, if known already.
        generator: for the Lanczos start; default seed 0.
    Returns:
        Estimate in loss units per parameter unit squared; details: converged (1 or 0).
    """
    return largest(pairs or leading_pairs(problem, generator))


@measured
def lambda_max_ggn(problem: Problem, *, generator: torch.Generator | None = None) -> Estimate:
    """Largest eigenvalue of the Gauss-Newton matrix; stderr is its residual bound."""
    return largest(top_eigenpairs(ggn(problem), 1, which="LA", tol=TOL, generator=generator, progress=False))


@measured
def lambda_max_over_lambda_5(
    problem: Problem, *, pairs: EigenPairs | None = None, generator: torch.Generator | None = None
) -> Estimate:
    """lambda_max / |lambda_5|: how far the top eigenvalue stands out. Needs at least five parameters.

    Where lambda_5 is zero up to rounding the ratio is capped at 1/eps of the parameters' dtype. Details: converged.
    """
    integer_in("the number of parameters", problem.size, 5)
    pairs = pairs or leading_pairs(problem, generator)
    top, fifth = pairs.values[0].double().cpu(), pairs.values[4].double().cpu()
    floor = torch.finfo(pairs.values.dtype).eps * top.abs().clamp(min=torch.finfo(torch.float64).tiny)
    ratio = top / fifth.abs().maximum(floor)
    errors = pairs.residuals.double().cpu()
    stderr = (errors[0] + ratio.abs() * errors[4]) / fifth.abs().maximum(floor)
    details = {"converged": float(pairs.converged[0] and pairs.converged[4])}
    return Estimate(value=ratio, stderr=stderr, matvecs=pairs.matvecs, details=details)


@measured
def trace(problem: Problem, *, matvecs: int = 60, generator: torch.Generator | None = None) -> Estimate:
    """Trace of the Hessian of a problem by XTrace with `matvecs` products; of any operator: `landscape.trace`.

    Not from the shared density, whose few probes have the larger error. From 2**26 weights on by Hutchinson's
    estimator, as XTrace keeps 2 `matvecs` vectors: 60 GB for GPT-2. Its error is the larger one, and stated.
    """
    return _trace(hessian(problem), matvecs, generator)


@measured
def trace_ggn(problem: Problem, *, matvecs: int = 60, generator: torch.Generator | None = None) -> Estimate:
    """Trace of the Gauss-Newton matrix by XTrace with `matvecs` products; of large networks as `trace` does it."""
    return _trace(ggn(problem), matvecs, generator)


def _trace(operator: CurvatureOperator, matvecs: int, generator: torch.Generator | None) -> Estimate:
    method = "xtrace" if operator.shape[0] < LARGE else "hutchinson"
    return operator_trace(operator, method=method, matvecs=matvecs, generator=generator, progress=False)


@measured
def frobenius_norm(
    problem: Problem, *, density: SpectralDensity | None = None, generator: torch.Generator | None = None
) -> Estimate:
    """|H|_F, the root of the sum of squared eigenvalues, from the density that is shared.

    Of any operator, by XTrace: `landscape.frobenius_norm`; of the weights of each layer: `frobenius_norms`.

    Args:
        problem: the scalar function.
        density: `whole_density(problem)`, if known already.
        generator: for its probes; default seed 0.
    Returns:
        Estimate with the standard error of the probes, by the delta method: with five leading pairs and three probes at
        most 9 %, reached by ten equal eigenvalues, of which the probes see five.
    """
    return frobenius_norm_of(density or whole_density(problem, generator), problem.size)


@measured
def eigenvalues_above(
    problem: Problem,
    *,
    share: float = 0.01,
    above: float | None = None,
    density: SpectralDensity | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    """Number of Hessian eigenvalues above a share of the largest, or above a threshold.

    Args:
        problem: the scalar function.
        share: of the largest node of the density, positive: the count then does not see the scale of the loss.
        above: the threshold itself, in units of eigenvalues; replaces `share`.
        density: `whole_density(problem)`, if known already.
        generator: for its probes; default seed 0.
    Returns:
        Estimate with the standard error of the probes; details: above. `landscape.eigenvalue_count` is more accurate.
    Raises:
        ValueError: if share is not positive.
    """
    positive("share", share)
    density = density or whole_density(problem, generator)
    above = share * float(density.nodes.max()) if above is None else above
    counted = spectral_sum(density, (density.nodes > above).double(), problem.size)
    return replace(counted, details={"above": float(above)})


@measured
def gradient_norm(
    problem: Problem, *, origin: Origin | None = None, generator: torch.Generator | None = None
) -> Estimate:
    """|∇L(w)|: how far the checkpoint is from a stationary point."""
    _, g = origin or problem.loss_and_gradient()
    return Estimate.exact(float(problem.space.norms(g)))


def largest(pairs: EigenPairs, **details: float) -> Estimate:
    """The first of the pairs, with its residual bound for an error."""
    return Estimate(
        value=pairs.values[0].double().cpu(),
        stderr=pairs.residuals[0].double().cpu(),
        matvecs=pairs.matvecs,
        details={"converged": float(pairs.converged[0]), **details},
    )
