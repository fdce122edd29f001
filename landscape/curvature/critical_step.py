"""How far a step may go: η_c, the smallest η > 0 with L(w − ηΔ) > L(w) along an update Δ, by forward passes alone.

Doubling or halving brackets η_c, bisecting narrows the bracket. L(w − ηΔ) = L(w) − η Δ·g + η² Δ·HΔ / 2 + …, so that on
a quadratic η_c = 2 Δ·g / Δ·HΔ. What lies between the steps that are tried is not looked at: a rise and a fall between
two of them stay unseen.
Source: Kalra et al. 2026, "A scalable measure of loss landscape curvature for analyzing the training dynamics of LLMs",
arXiv:2601.16979.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from itertools import count
from math import inf, isfinite, isnan, sqrt

import torch
from torch import nn

from landscape.checks import first_line, require
from landscape.curvature.preconditioned import held_by, innermost
from landscape.problem import Problem
from landscape.processes.space import Space
from landscape.side_effects import derivatives_on
from landscape.vectors import Vector

TOL = 0.05  # of a bracket: four bisections after a doubling, our choice
DOUBLINGS = 40  # to find one, our choice
ROUNDING = 4  # units in the last place of the loss that two evaluations may differ by; 2.5 were seen in float32


@dataclass(frozen=True)
class Bracket:
    """Where η_c lies."""

    fallen: float  # the loss is lower after this step
    risen: float  # and higher after this one
    passes: int  # over the data

    @property
    def step(self) -> float:
        """η_c: the geometric mean of both."""
        return sqrt(self.fallen * self.risen)


def critical_step(problem: Problem, update: Vector, start: float, tol: float = TOL) -> Bracket:
    """The bracket of η_c along Δ, to a ratio of 1 + tol, or to where the change of the loss is lost in rounding.

    Args:
        problem: the scalar function, at the model's own weights.
        update: Δ (P,); the weights move to w − ηΔ.
        start: the first η; the nearer to η_c, the fewer passes.
        tol: of the ratio of the bracket's ends.
    Raises:
        ValueError: if the loss is NaN or infinite, if it never rises (the message holds the bound), or if it does not
            fall before it rises.
    """
    w = problem.vector()

    def loss(eta: float) -> float:
        return float(problem.mean(lambda batch: batch.evaluate(batch.w)[0].detach(), w.sub(update, alpha=eta)))

    with derivatives_on(), torch.no_grad(), problem.kept_open():
        here = loss(0.0)
        require(isfinite(here), f"the loss is {here}; check the weights, inputs and targets for NaN")
        rounding = ROUNDING * torch.finfo(w.dtype).eps * abs(here)
        found = bracket(lambda eta: loss(eta) - here, start, tol, rounding)
    return Bracket(found.fallen, found.risen, found.passes + 1)


def bracket(change: Callable[[float], float], start: float, tol: float, rounding: float) -> Bracket:
    """The same for L(w − ηΔ) − L(w) as a function of η; a change up to `rounding` decides nothing."""
    fallen, risen, above, eta = 0.0, inf, 0.0, start
    for passes in count(1):
        now = change(eta)
        if now > rounding or isnan(now):
            risen, above = eta, now
        elif now < -rounding:
            fallen = eta
        elif fallen and risen < inf:
            break
        if fallen and risen < inf:
            eta = sqrt(fallen * risen)
            if risen <= (1 + tol) * fallen or not fallen < eta < risen:
                break
            continue
        require(
            passes <= DOUBLINGS or risen < inf,
            f"the loss does not rise along the update up to a step of {eta:.3g}: the critical sharpness is below "
            f"{2 / eta:.3g}; try another update",
        )
        require(
            passes <= DOUBLINGS,
            f"the loss must fall along the update before it rises, it is not seen to, down to a step of {eta:.3g}; "
            "give an update that leads downhill on this loss, or Problem(dtype=torch.float64) where the fall is "
            "below the rounding of the loss",
        )
        eta = eta / 2 if risen < inf else 2 * eta
    require(
        isfinite(above), f"the loss is {above} after a step of {risen:.3g}, before it has risen; try another update"
    )
    return Bracket(fallen, risen, passes)


def first_step(update: Vector, loss: float, gradient: Vector, space: Space) -> float:
    """η at which the loss would be 0 if it went on falling as it begins to: a quarter of η_c where L = λw²/2.

    `space`: of the vectors, `problem.space`.

    Raises:
        ValueError: if it does not fall along the update.
    """
    slope = float(space.inner(gradient.double(), update.double()))
    require(
        slope > 0,
        f"the update must lead downhill, along it the loss rises at once (its slope is {-slope:.3g}): the critical "
        "sharpness is infinite; give another update",
    )
    return (abs(loss) or 1.0) / slope


def next_update(problem: Problem, optimizer: torch.optim.Optimizer, gradient: Vector) -> Vector:
    """Δ (P,) of the step that the optimiser would make with this gradient: from w to w − ηΔ, η its learning rate.

    A copy of it steps, in float64, with the state and the weight decay that it has; η is the largest of its groups.
    On a sharded model the copy's parameters are sharded alike, so that it steps as it would.

    Raises:
        ValueError: if it lacks a parameter of the problem, its learning rate is 0, it needs a closure, or does not
            serve sharded parameters.
    """
    optimizer = innermost(optimizer)
    with problem.space.agreed():
        held = held_by(problem, optimizer)
        eta = max(float(group["lr"]) for group in optimizer.param_groups)
        require(eta > 0, f"optimizer must have a learning rate above 0, got {eta:g}; measure after the first step")
    # in float32 a small step is lost in the rounding of the weights
    wide = {
        p: nn.Parameter(p.detach().to(torch.float64, copy=True))
        for group in optimizer.param_groups
        for p in group["params"]
    }
    twin = deepcopy(optimizer, {id(p): own for p, own in wide.items()})  # which takes these for copies of its own
    for p in wide.values():
        twin.state[p] = {key: _wide(value) for key, value in twin.state.get(p, {}).items()}
    for own, part in zip(held, problem.placed(problem.layout.unflatten(gradient.double())), strict=True):
        wide[own].grad = part
    before = problem.flat([wide[p] for p in held])
    try:
        twin.step()
    except TypeError as error:
        raise ValueError(
            f"optimizer must step without a closure, {type(optimizer).__name__} does not; give update="
        ) from error
    except RuntimeError as error:
        if problem.shards is None:
            raise
        raise ValueError(
            f"optimizer must step on sharded parameters, {type(optimizer).__name__} does not ({first_line(error)}); "
            "give update="
        ) from error
    return ((before - problem.flat([wide[p] for p in held])) / eta).to(gradient)


def _wide(value: object) -> object:
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
