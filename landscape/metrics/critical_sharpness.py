"""Critical sharpness λ_c = 2/η_c, η_c the smallest step along an update after which the loss is higher.

It needs forward passes alone, where λmax needs products. Along the gradient of a quadratic λ_c = g·Hg / g·g <= λmax;
along an update Δ in general Δ·HΔ / Δ·g.
Source: Kalra et al. 2026, arXiv:2601.16979.
"""

import torch

from landscape.checks import positive, require, vector_like
from landscape.curvature.critical_step import TOL, critical_step, first_step, next_update
from landscape.metrics.metric import Origin, measured
from landscape.problem import Problem
from landscape.problem.cost import FORWARD
from landscape.storage.results import Estimate
from landscape.vectors import Vector

PASSES = 10  # about: one for L(w), some four to come near, four to bisect


@measured
def critical_sharpness(
    problem: Problem,
    *,
    along: Problem | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    update: Vector | None = None,
    start: float | None = None,
    tol: float = TOL,
    origin: Origin | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    """λ_c = 2/η_c, η_c the smallest η > 0 with L(w − ηΔ) > L(w); Δ is the gradient, or what one of these gives.

    Args:
        problem: the scalar function, loss 2 of the relative λ_c^{1→2}.
        along: loss 1: another problem on the same parameters, whose gradient takes the place of the problem's own.
        optimizer: Δ is the step that it would make with that gradient, over its learning rate, as `next_update` has it.
        update: Δ itself, (P,), of a sharded model the own entries. With `start` no gradient is taken.
        start: the first η, for instance the learning rate; default the loss over g·Δ.
        tol: the search ends where the ends of η's bracket have a ratio of 1 + tol.
        origin: loss and gradient of the problem at w, if known already.
        generator: not used; for the common signature.
    Returns:
        Estimate in units of 1/η (along a gradient loss units per parameter unit squared); stderr is the half of the
        bracket. Details: low and high, its ends; eta, η_c; passes over the data.
    Raises:
        ValueError: if an argument is out of range, Δ is 0, the loss is NaN or infinite, never rises along Δ (λ_c is
            below what can be said: the message has the bound), or does not fall first.
    """
    source, space = problem if along is None else along, problem.space
    with space.agreed():
        positive("tol", tol)
        if start is not None:
            positive("start", start)
        _require_one_update(problem, along, optimizer, update)
    if update is None:
        known = origin if along is None else None
        known = known or source.loss_and_gradient()
        origin = known if along is None else origin
        update = known[1] if optimizer is None else next_update(problem, optimizer, known[1])
    moved = space.any(bool(update.any()))
    require(moved, "the update is 0, as at a stationary point: no step along it changes the loss")
    if start is None:
        loss, g = origin or problem.loss_and_gradient()
        start = first_step(update, float(loss), g, space)
    found = critical_step(problem, update, space.largest(start), tol)  # one that all have, whatever each was given
    low, high = 2 / found.risen, 2 / found.fallen
    return Estimate(
        value=torch.tensor(2 / found.step, dtype=torch.float64, device="cpu"),
        stderr=torch.tensor((high - low) / 2, dtype=torch.float64, device="cpu"),
        details={"low": low, "high": high, "eta": found.step, "passes": float(found.passes)},
    )


def _require_one_update(
    problem: Problem, along: Problem | None, optimizer: torch.optim.Optimizer | None, update: Vector | None
) -> None:
    require(
        update is None or (along is None and optimizer is None),
        "update must be given alone, or along= and optimizer= in its place",
    )
    if update is not None:
        vector_like("update", update, problem.vector())
    if along is not None:
        same = along.layout == problem.layout and (along.shards is None) == (problem.shards is None)
        require(
            same,
            f"along must be a problem on the same parameters, sharded alike, got P = {along.size} for {problem.size}",
        )


def critical_cost(along: Problem | None, update: Vector | None, **_: object) -> float:
    """Gradient-times, about: forward passes, and a gradient of another loss."""
    return FORWARD * PASSES + (along is not None)
