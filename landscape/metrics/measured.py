"""What a metric cost is part of its result: `measured` stamps it, and says beforehand about how much it will be."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, wraps
from inspect import signature
from math import isnan
from time import perf_counter
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from landscape.problem import Problem
from landscape.problem.cost import billed
from landscape.side_effects import derivatives_on
from landscape.storage.results import Estimate

P = ParamSpec("P")
T = TypeVar("T")
Metric = Callable[Concatenate[Problem, P], Estimate]
About = float | Callable[[Mapping[str, Any]], float]  # gradient-times, also by settings and `units`

_about: dict[Any, About] = {}


@dataclass(frozen=True, eq=False)
class Priced(Generic[T]):
    """The answer of some work, and what it cost."""

    answer: T
    gradient_times: float
    seconds: float
    verified: float | None = None  # largest disagreement of an operator inside with differences; NaN: none decides


def priced(problem: Problem, work: Callable[[], T]) -> Priced[T]:
    """Do the work and count its passes over the problem's data, also over parts of it; also inside inference mode."""
    began = perf_counter()
    with derivatives_on(), billed() as bill:  # tensors made under inference mode are of no use for derivatives
        answer = work()
    seconds = perf_counter() - began
    cost = bill.work / max(problem.extent.units, 1.0) if bill.work else 0.0
    return Priced(answer, cost, seconds, _largest(bill.disagreements))


def _largest(disagreements: Sequence[float]) -> float | None:
    """None where nothing was verified, NaN where a difference decided nothing."""
    unclear = any(map(isnan, disagreements))
    return (float("nan") if unclear else max(disagreements)) if disagreements else None


def measured(*, about: About) -> Callable[[Metric[P]], Metric[P]]:
    """Decorator of every metric: its Estimate carries cost and data, whoever calls it.

    Args:
        about: gradient-times that it will take at given settings, without what `analyze` shares.
    """

    def decorated(metric: Metric[P]) -> Metric[P]:
        @wraps(metric)
        def stamped(problem: Problem, /, *args: P.args, **settings: P.kwargs) -> Estimate:
            found = priced(problem, lambda: metric(problem, *args, **settings))
            verified = {} if found.verified is None else {"verified": found.verified}
            return replace(
                found.answer,
                details={**found.answer.details, **verified},
                gradient_times=found.gradient_times,
                seconds=found.seconds,
                data=str(problem.extent),
            )

        _about[stamped] = about
        return stamped

    return decorated


def expected(metric: Callable[..., Estimate], settings: Mapping[str, Any], units: float) -> float:
    """Gradient-times that a metric will take on so many units of data, about, without shared work."""
    about = _about[metric.func if isinstance(metric, partial) else metric]
    defaults = {name: parameter.default for name, parameter in signature(metric).parameters.items()}
    return about({**defaults, **settings, "units": units}) if callable(about) else about
