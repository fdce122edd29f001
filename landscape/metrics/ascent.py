"""Projected ascent of the loss inside a ball, from a point of it to where a step gains next to nothing.

The step is a multiple of the first-order maximiser, so that it has the ball's own units; doubled again and again it
becomes the power iteration that maximises a convex quadratic. Where two curvatures are nearly equal that iteration
creeps: the way from the last point is followed further, more each time as long as the loss rises (an extrapolated power
iteration; the same with a fixed share: Polyak 1964).
"""

from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from landscape.metrics.balls import Ball
from landscape.metrics.metric import Origin
from landscape.problem import Problem

STEPS = 200  # the cap of every ascent
TOL = 1e-3  # of the gap: what the last steps gain together where an ascent has converged
LAST = 3  # so many: one step alone may gain little on its way past a saddle
# Measured on six fitted networks in six balls, gradients to 99 % of where the ascent ends: 7.8, at most 20; without
# momentum 9.5, at most 37; nonlinear conjugate gradients take about as many, but stop at saddles. With LAST = 3 all end
# within .1 % of what 120 steps find, after 14.4; with 1, at other momenta, as low as at half of it. On quadratics from
# random points 3 % end more than 2 % below, at a second eigenvalue that is close; with 2 they are 4 %.
LENGTH, MOMENTUM, GROWTH, FURTHEST = 4.0, 0.1, 2.0, 10.0


@dataclass(frozen=True, eq=False)
class Climb:
    """Where an ascent ended.

    Attributes:
        gap: L(w + displacement(e)) − L(w), which may be negative.
        e: the point of the ball, (P,).
        steps: gradients taken, or 1 forward pass.
        last_gain: what the last step that rose gained, as a share of the gap; NaN for one step, which is no ascent.
        converged: the last steps gained next to nothing, by `TOL`, or nothing leads further. A step taken back gains
            nothing and says nothing. It is a local maximum, and near a saddle not even that: `restarts` tell.
    """

    gap: float
    e: Tensor
    steps: int
    last_gain: float = float("nan")
    converged: bool = False

    @property
    def details(self) -> dict[str, float]:
        """What an Estimate says of it: one step is a definition and neither converges nor fails to."""
        if self.steps == 1 and not self.converged:
            return {"steps": 1.0}
        return {"steps": float(self.steps), "last_gain": self.last_gain, "converged": float(self.converged)}


def ascend(problem: Problem, region: Ball, e: Tensor, loss: Tensor, steps: int) -> Climb:
    """Climb from e, a point of the ball; a step that does not raise the loss is taken back and made smaller.

    Args:
        problem: the scalar function.
        region: the ball, around the problem's own weights.
        e: where to begin, (P,).
        loss: at the weights.
        steps: 1 is the loss at e alone; more is the cap.
    """
    w, space = problem.vector(), problem.space
    if steps == 1:
        return Climb(float(problem.loss(w + region.displacement(e)) - loss), e, 1)

    def climbed(e: Tensor) -> Origin:
        value, g = problem.loss_and_gradient(w + region.displacement(e))
        return value, region.slope(e, g)

    best, g = climbed(e)
    gains: list[float] = []
    stride, momentum, way = LENGTH, MOMENTUM, torch.zeros_like(e)
    taken, converged = 1, False
    while taken < steps and not converged and isfinite(float(best)):
        straight = region.pulled_back(e + stride * region.ascent(g))
        further = space.any(bool(way.any()))
        candidate = region.pulled_back(straight + momentum * way) if further else straight
        converged = not space.any(not torch.equal(candidate, e))  # so would be a shorter one
        if converged or space.any(not bool(candidate.isfinite().all())):
            break
        value, slope = climbed(candidate)
        taken += 1
        least = TOL * abs(float(best - loss))
        if value > best:
            gains.append(float(value - best))
            way, stride, momentum = candidate - e, 2 * stride, min(GROWTH * momentum, FURTHEST)
            best, e, g = value, candidate, slope
            converged = len(gains) >= LAST and sum(gains[-LAST:]) < least
        elif further:
            way, momentum = torch.zeros_like(e), MOMENTUM
        else:
            promise = float(space.inner(g, candidate - e)) / min(stride, 1.0)  # of a whole step by its slope
            converged = 0 <= promise < least
            stride /= 2
    gap = float(best - loss)
    last = gains[-1] if gains else 0.0
    return Climb(gap, e, taken, last / abs(gap) if gap else 0.0, converged)
