"""Worst-case sharpness: how much the loss can rise within a ball around the weights, max_e L(w + e) − L(w).

e = 0 is in the ball, so that the gap is never negative. One step takes the maximiser of the linearised loss; more steps
go on by ascent on the true loss, until a step gains next to nothing (see `ascent`). At a stationary point the Euclidean
gap is ½ rho² lambda_max to second order.
Source: Foret et al. 2021, arXiv:2010.01412; Zhuang et al. 2022, arXiv:2203.08065 (surrogate gap).
"""

from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from landscape.checks import integer_in, positive
from landscape.curvature import fisher
from landscape.metrics.ascent import STEPS, Climb, ascend
from landscape.metrics.balls import DAMPING_PRODUCTS, SOLVED, Ball, FisherBall, ball
from landscape.metrics.logits import with_normalized_logits
from landscape.metrics.metric import Origin, measured
from landscape.problem import Problem
from landscape.problem.cost import FORWARD, GAUSS_NEWTON, GRADIENT, Range
from landscape.side_effects import random_source
from landscape.storage.results import Estimate


def climb_cost(steps: int, restarts: int, step: float = GRADIENT) -> Range:
    """One forward pass a start for one step, else a gradient a step: one where nothing leads further."""
    starts = 1 + restarts
    return Range.of(starts * FORWARD) if steps == 1 else Range(1, steps) * (starts * step) + FORWARD


def worst_case_cost(
    *, steps: int, restarts: int, normalize_logits: bool, geometry: str, max_matvecs: int, **_: object
) -> Range:
    """The ascent; the Fisher ball's linear systems come on top, two a step, and the images of points, two a step."""
    cost = climb_cost(steps, restarts)
    if normalize_logits:
        cost = cost + GRADIENT
    if geometry == "fisher":
        systems = climb_cost(steps, restarts, GAUSS_NEWTON * 2 * (max_matvecs + 2)) if steps > 1 else 0.0
        cost = cost + systems + GAUSS_NEWTON * (max_matvecs + DAMPING_PRODUCTS)
    if geometry.startswith("fisher"):
        cost = cost + GRADIENT + GAUSS_NEWTON + 2 * FORWARD  # half_eFe, kl
    return cost


@measured
def surrogate_gap(
    problem: Problem, *, rho: float = 0.05, origin: Origin | None = None, generator: torch.Generator | None = None
) -> Estimate:
    """h = L(w + rho ĝ) − L(w), the surrogate gap of GSAM.

    2h/rho² is lambda_max only at a stationary point; `curvature_along_gradient` = 2(h − rho |g|)/rho² tends to ĝᵀHĝ
    everywhere.

    Args:
        problem: the scalar function.
        rho: radius, positive.
        origin: loss and gradient at w, if known already.
        generator: not used; for the common signature.
    Returns:
        Estimate with stderr 0; details: gradient_norm, two_h_over_rho2, curvature_along_gradient.
    Raises:
        ValueError: if rho is not positive.
    Source: Zhuang et al. 2022, arXiv:2203.08065, equations 4 and 7.
    """
    positive("rho", rho)
    loss, g = origin or problem.loss_and_gradient()
    norm = float(problem.space.norms(g))
    h = float(problem.loss(problem.vector() + rho * (g / norm if norm > 0 else g)) - loss)
    return Estimate.exact(
        h,
        gradient_norm=norm,
        two_h_over_rho2=2 * h / rho**2,
        curvature_along_gradient=2 * (h - rho * norm) / rho**2,
    )


@measured
def worst_case_gap(
    problem: Problem,
    *,
    rho: float = 0.05,
    geometry: str = "euclidean",
    p: float = 2,
    eta: float = 0.0,
    steps: int = STEPS,
    restarts: int = 0,
    normalize_logits: bool = False,
    max_matvecs: int = 500,
    origin: Origin | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    """Largest L(w + e) − L(w) found in a ball of displacements e.

    Args:
        problem: the scalar function.
        rho: radius, positive, in the geometry's units.
        geometry: "euclidean" |e|_p <= rho | "adaptive" |e/(|w| + eta)|_p <= rho, every entry, biases too |
            "adaptive_filter" the same with the norm of the entry's filter | "fisher" eᵀFe <= rho², exact Fisher matrix,
            damped by less than 1e-6 of its mean eigenvalue | "fisher_diagonal" eᵀ(1 + eta g²)e <= rho².
        p: norm of the ball, in [1, inf]; 2 for the Fisher balls.
        eta: see geometry, at least 0.
        steps: 1 is the first-order maximiser; more is the cap of a projected ascent that starts there (where the
            gradient is zero, from a random point), ends where the last three steps together gained less than 1e-3 of
            the gap, and goes on from the point opposite. One gradient a step; for "fisher" also two linear systems.
        restarts: further ascents from random points of the boundary: each ends in a local maximum.
        normalize_logits: see `logits`; `origin` is then taken anew.
        max_matvecs: for "fisher": Fisher products of one linear system at most. A system that they do not solve
            leaves out flat directions, along which the ball is longest: the gap may be off several times.
        origin: loss and gradient at w, if known already.
        generator: for the random points; default seed 0.
    Returns:
        Estimate of a lower bound of the maximum, at least 0, stderr 0. Details: length |e|; steps, gradients of the
        best start; of more than one also last_gain, as a share of the gap, and converged, 1 or 0; for "fisher" also
        residual, the largest of a linear system as a share of its right side, and converged, 0 too where that is above
        1e-8; for both Fisher balls half_eFe with the exact Fisher matrix, and with class targets kl, the mean
        divergence moved, which half_eFe is for small rho.
    Raises:
        ValueError: if an argument is out of range.
    """
    integer_in("steps", steps, 1)
    integer_in("restarts", restarts, 0)
    if normalize_logits:
        problem, origin = with_normalized_logits(problem), None
    origin = origin or problem.loss_and_gradient()
    region = ball(problem, origin[1], rho=rho, geometry=geometry, p=p, eta=eta, max_matvecs=max_matvecs)
    climb = largest_rise(problem, region, steps, restarts, origin, random_source(generator))
    e, matvecs = climb.e, 0
    details = {"length": float(problem.space.norms(e)), **climb.details}
    if geometry.startswith("fisher"):
        with suppress(ValueError):  # a diagonal ball needs no outputs that a Fisher matrix could be made of
            F_e = (region.operator if isinstance(region, FisherBall) else fisher(problem)).matvec(e)
            details |= {"half_eFe": 0.5 * float(e @ F_e)} | _divergence(problem, e)
        matvecs = 1 + (region.matvecs if isinstance(region, FisherBall) else 0)
    if isinstance(region, FisherBall):
        solved = region.residual <= SOLVED
        details |= {"residual": region.residual, "converged": float(solved and details.get("converged", 1.0))}
    return Estimate.exact(climb.gap, matvecs=matvecs, **details)


def largest_rise(
    problem: Problem, region: Ball, steps: int, restarts: int, origin: Origin | None, source: torch.Generator
) -> Climb:
    """The largest gap found in a ball, at least 0, and where: from the first-order maximiser and random points.

    With the steps that are left it goes on from the opposite point, where the loss rises there too: around a minimum
    the largest maxima come in pairs, e and about −e, and chance decides which is found. (In 22 balls of six fitted
    networks the first was as low as .78 of the larger one, which no random start exceeded.)
    """
    loss, g = origin or problem.loss_and_gradient()
    first = region.first_order(g)
    starts = [first] if steps == 1 or problem.space.any(bool(first.any())) else [region.boundary_point(source)]
    starts += [region.boundary_point(source) for _ in range(restarts)]
    best = max((ascend(problem, region, start, loss, steps) for start in starts), key=lambda found: found.gap)
    if best.gap > 0 and steps > best.steps + 1:
        opposite = region.pulled_back(-best.e)
        if bool(problem.loss(problem.vector() + region.displacement(opposite)) > loss):
            other = ascend(problem, region, opposite, loss, steps - best.steps)
            steps, converged = best.steps + other.steps, best.converged and other.converged
            best = replace(max(best, other, key=lambda found: found.gap), steps=steps, converged=converged)
    return best if best.gap > 0 else replace(best, gap=0.0, e=torch.zeros_like(best.e))


def _divergence(problem: Problem, e: Tensor) -> dict[str, float]:
    """Mean KL(p(w) ‖ p(w + e)) of the predictions, for class targets (n,) and outputs (n, C)."""
    targets = problem.batches_with_units()[0][1]
    if not isinstance(targets, Tensor) or targets.is_floating_point() or targets.ndim != 1:
        return {}
    before, after = (problem.outputs(w).log_softmax(-1) for w in (problem.vector(), problem.vector() + e))
    return {"kl": float(F.kl_div(after, before, log_target=True, reduction="batchmean"))}
