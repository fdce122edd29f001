"""Sharpness read off the Hessian's spectrum: lambda_max, lambda_max / lambda_5, the trace, and Adam's tr(diag(H)^½).

Source: Keskar et al. 2017, arXiv:1609.04836; Jastrzebski et al. 2020, arXiv:2002.09572 (the ratio); Foret et al. 2021.
"""

from collections.abc import Mapping
from typing import Any

import torch

from landscape.checks import integer_in, one_of
from landscape.cost import GRADIENT, HESSIAN
from landscape.curvature import ggn, hessian
from landscape.isolation import random_source
from landscape.linalg import diagonal, top_eigenpairs
from landscape.linalg import trace as operator_trace
from landscape.metrics.measured import measured
from landscape.metrics.worst_case import Origin, exact
from landscape.problem import Problem
from landscape.results import EigenPairs, Estimate

PAIRS_COST = 30 * HESSIAN  # of `leading_pairs`, about
GROUPS = 4  # independent diagonals, for the jackknife of the square root


def _pairs_cost(own: Mapping[str, Any]) -> float:
    return 0.0 if own["pairs"] else PAIRS_COST


def leading_pairs(problem: Problem, generator: torch.Generator | None = None) -> EigenPairs:
    """The five largest eigenvalues of the Hessian, which every metric of the top of the spectrum shares."""
    return top_eigenpairs(hessian(problem), min(5, problem.size), which="LA", tol=1e-3, generator=generator)


@measured(about=_pairs_cost)
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
    pairs = pairs or leading_pairs(problem, generator)
    return Estimate(
        value=pairs.values[0].double().cpu(),
        stderr=pairs.residuals[0].double().cpu(),
        matvecs=pairs.matvecs,
        details={"converged": float(pairs.converged[0])},
    )


@measured(about=_pairs_cost)
def lambda_max_over_lambda_5(
    problem: Problem, *, pairs: EigenPairs | None = None, generator: torch.Generator | None = None
) -> Estimate:
    """lambda_max / |lambda_5|: how far the top eigenvalue stands out. Needs at least five parameters.

    Where lambda_5 is zero up to rounding the ratio is capped at 1/eps of the parameters' dtype.
    """
    integer_in("the number of parameters", problem.size, 5)
    pairs = pairs or leading_pairs(problem, generator)
    top, fifth = pairs.values[0].double().cpu(), pairs.values[4].double().cpu()
    floor = torch.finfo(pairs.values.dtype).eps * top.abs().clamp(min=torch.finfo(torch.float64).tiny)
    ratio = top / fifth.abs().maximum(floor)
    errors = pairs.residuals.double().cpu()
    stderr = (errors[0] + ratio.abs() * errors[4]) / fifth.abs().maximum(floor)
    return Estimate(value=ratio, stderr=stderr, matvecs=pairs.matvecs)


@measured(about=lambda settings: HESSIAN * settings["matvecs"])
def trace(problem: Problem, *, matvecs: int = 60, generator: torch.Generator | None = None) -> Estimate:
    """Trace of the Hessian by XTrace with `matvecs` products (`landscape.trace` takes other operators and methods)."""
    return operator_trace(hessian(problem), matvecs=matvecs, generator=generator)


@measured(about=lambda own: 0.0 if own["origin"] else GRADIENT)
def gradient_norm(
    problem: Problem, *, origin: Origin | None = None, generator: torch.Generator | None = None
) -> Estimate:
    """|∇L(w)|: how far the checkpoint is from a stationary point."""
    _, g = origin or problem.loss_and_gradient()
    return exact(float(g.norm()))


@measured(about=lambda settings: HESSIAN * settings["matvecs"])
def adam_sharpness(
    problem: Problem, *, operator: str = "hessian", matvecs: int = 64, generator: torch.Generator | None = None
) -> Estimate:
    """tr(diag(H)^½) with negative entries taken as 0, the sharpness that Adam's implicit bias lowers.

    The square root of a noisy entry is biased: low where the entry is well above its noise, high where entries near
    zero are clamped. Four independent XDiag estimates give a jackknife: the value has the first-order bias taken off,
    and the details say how large it was.

    Args:
        problem: the scalar function.
        operator: "hessian" | "ggn" (never negative).
        matvecs: products in all, at least 16; exact with P products from 4 P on.
        generator: default seed 0.
    Returns:
        Estimate; details: bias, the part that was taken off, and negative, the share of entries clamped.
    Raises:
        ValueError: if an argument is out of range.
    """
    one_of("operator", operator, ("hessian", "ggn"))
    integer_in("matvecs", matvecs, 4 * GROUPS)
    curvature = (hessian if operator == "hessian" else ggn)(problem)
    if matvecs // GROUPS >= problem.size:
        entries = diagonal(curvature, matvecs=problem.size).value
        return exact(float(_root_sum(entries)), matvecs=problem.size, negative=float((entries < 0).double().mean()))
    source = random_source(generator)
    found = [diagonal(curvature, matvecs=matvecs // GROUPS, generator=source) for _ in range(GROUPS)]
    entries = torch.stack([estimate.value for estimate in found])
    whole = _root_sum(entries.mean(0))
    left_out = torch.stack([_root_sum((entries.sum(0) - entry) / (GROUPS - 1)) for entry in entries])
    bias = (GROUPS - 1) * (left_out.mean() - whole)
    spread = ((GROUPS - 1) / GROUPS * (left_out - left_out.mean()).square().sum()).sqrt()
    return Estimate(
        value=whole - bias,
        stderr=spread,
        matvecs=sum(estimate.matvecs for estimate in found),
        details={"bias": float(bias), "negative": float((entries.mean(0) < 0).double().mean())},
    )


def _root_sum(entries: torch.Tensor) -> torch.Tensor:
    return entries.clamp(min=0).sqrt().sum()
