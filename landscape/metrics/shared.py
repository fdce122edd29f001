"""What several metrics need, computed once; a metric that needs it has a keyword of its name and says so."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from landscape.metrics.metric import Cost, Origin
from landscape.metrics.spectral import PROBES, STEPS, leading_pairs, whole_density
from landscape.problem import Problem
from landscape.problem.cost import GRADIENT, HESSIAN
from landscape.storage.results import EigenPairs, SpectralDensity


@dataclass(frozen=True)
class Shared:
    """One piece of shared work."""

    what: str  # as the table of costs names it
    make: Callable[..., object]  # (problem, *needs, generator=...)
    cost: Cost  # gradient-times, without what it needs itself; also for a metric that does it alone, of its settings
    needs: Sequence[str] = ()
    unless: Sequence[str] = ()  # a metric with one of these settings does its own work


def _origin(problem: Problem, generator: torch.Generator) -> Origin:
    return problem.loss_and_gradient()


def _density(problem: Problem, pairs: EigenPairs, generator: torch.Generator) -> SpectralDensity:
    return whole_density(problem, generator, pairs=pairs)


def _density_cost(*, probes: int = PROBES, steps: int = STEPS, **_: object) -> float:
    return HESSIAN * probes * steps


SHARED = {
    "origin": Shared("loss and gradient", _origin, GRADIENT),
    "pairs": Shared("leading eigenpairs", leading_pairs, 25 * HESSIAN),
    "density": Shared("spectral density", _density, _density_cost, ("pairs",), ("probes", "steps", "by")),
}
