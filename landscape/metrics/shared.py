"""What several metrics need, computed once; a metric that needs it has a keyword of its name and says so."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from landscape.metrics.metric import Cost
from landscape.metrics.spectral import PROBES, STEPS, leading_pairs, pairs_cost, whole_density
from landscape.problem.cost import GRADIENT, HESSIAN


@dataclass(frozen=True)
class Shared:
    """One piece of shared work."""

    what: str  # as the table of costs names it
    make: Callable[..., object]  # (problem, *needs, generator=...)
    cost: Cost  # gradient-times, without what it needs itself; of `size` weights, and of a metric that does it alone
    needs: Sequence[str] = ()
    unless: Sequence[str] = ()  # a metric with one of these settings does its own work


SHARED = {
    "origin": Shared("loss and gradient", lambda problem, **_: problem.loss_and_gradient(), GRADIENT),
    "pairs": Shared("leading eigenpairs", leading_pairs, pairs_cost),
    "density": Shared(
        "spectral density",
        lambda problem, pairs, generator: whole_density(problem, generator, pairs=pairs),
        lambda probes=PROBES, steps=STEPS, **_: HESSIAN * probes * steps,
        needs=("pairs",),
        unless=("probes", "steps", "by"),
    ),
}
