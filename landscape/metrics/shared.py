"""Work that several metrics have in common: one that takes it has a keyword of its name and kind.

A metric may also have a keyword with the name of another metric, and is then given its Estimate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from landscape.metrics.spectral import PAIRS_COST, PROBES, STEPS, leading_pairs, whole_density
from landscape.metrics.worst_case import Origin
from landscape.problem import Problem
from landscape.problem.cost import GRADIENT, HESSIAN
from landscape.storage.results import EigenPairs, SpectralDensity


@dataclass(frozen=True)
class Shared:
    """One piece of shared work."""

    what: str  # as the table of costs names it
    kind: Any  # of the keyword in metrics, where None is its default
    make: Callable[..., Any]  # (problem, *needs, generator=...)
    about: float  # gradient-times, without what it needs itself
    needs: Sequence[str] = ()
    unless: Sequence[str] = ()  # a metric with one of these settings does its own work


def _origin(problem: Problem, generator: torch.Generator) -> Any:
    return problem.loss_and_gradient()


def _density(problem: Problem, pairs: EigenPairs, generator: torch.Generator) -> SpectralDensity:
    return whole_density(problem, generator, pairs=pairs)


SHARED = {
    "origin": Shared("loss and gradient", Origin, _origin, GRADIENT),
    "pairs": Shared("leading eigenpairs", EigenPairs, leading_pairs, PAIRS_COST),
    "density": Shared(
        "spectral density",
        SpectralDensity,
        _density,
        PROBES * STEPS * HESSIAN,
        ("pairs",),
        ("probes", "steps", "by"),
    ),
}
