"""A metric as a record: its function, the settings it runs at, what it costs, and what it needs that others need too.

What a metric cost is part of its result: a record stamps it, and so does `measured` where the function is called alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from inspect import signature
from math import isnan
from time import perf_counter
from typing import Concatenate, ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from landscape.checks import require
from landscape.problem import Problem
from landscape.problem.cost import Range, billed
from landscape.side_effects import derivatives_on, random_source
from landscape.storage.results import Estimate
from landscape.storage.results.measurements import Spent

P = ParamSpec("P")
T = TypeVar("T")
# whose numbers are sums over all processes where the vectors of a sharded model are dealt out to them
SHARDED = {
    "gradient_norm",
    "surrogate_gap",
    "worst_case_gap",
    "average_gap",
    "lambda_max",
    "lambda_max_over_lambda_5",
} | {"trace", "frobenius_norm", "eigenvalues_above", "critical_sharpness", "preconditioned_sharpness"}
Function = Callable[Concatenate[Problem, P], Estimate]
Settings = Mapping[str, object]  # keyword arguments
Cost = float | Callable[..., float | Range]  # gradient-times, also as a function of settings
Origin = tuple[Tensor, Tensor]  # loss () and gradient (P,) at the model's own weights


@dataclass(frozen=True, eq=False)
class Metric:
    """A function of a Problem that gives an Estimate; called like one.

    Args:
        function: (problem, *, ..., generator=None) -> Estimate.
        settings: keywords that it runs at.
        cost: gradient-times that it will take, without what it needs; or a function of all its settings, and of
            `units` of data, as keywords, that gives them or a `Range` of them.
        needs: keywords that `analyze` gives it: "origin", "pairs", "density" (see `shared`), or the name of another
            metric, whose Estimate it is.
    Raises:
        ValueError: if the function does not take one of these.
    """

    function: Callable[..., Estimate]
    settings: Settings = field(default_factory=dict)
    cost: Cost = 0.0
    needs: Sequence[str] = ()

    def __post_init__(self) -> None:
        try:
            signature(self.function).bind(None, **{**dict.fromkeys(("generator", *self.needs)), **self.settings})
        except TypeError as error:
            name = getattr(self.function, "__name__", self.function)
            raise ValueError(
                f"a metric must take (problem, *, generator=None), its settings and needs; {name}: {error}"
            ) from error

    def __call__(self, problem: Problem, **settings: object) -> Estimate:
        """The Estimate at the record's settings, or others, with its cost."""
        return measured(self.function)(problem, **{**self.settings, **settings})

    def at(self, **settings: object) -> "Metric":
        """The same metric at other settings."""
        return replace(self, settings={**self.settings, **settings})

    def all_settings(self, own: Settings) -> dict[str, object]:
        """Defaults of the function, settings of the record, and those in `own`."""
        defaults = {name: parameter.default for name, parameter in signature(self.function).parameters.items()}
        return {**defaults, **self.settings, **own}

    def expected(self, own: Settings, units: float) -> Range:
        """Gradient-times that it will take on so many units of data, about, without what it needs."""
        return expected(self.cost, {**self.all_settings(own), "units": units})


def expected(cost: Cost, settings: Settings) -> Range:
    """The cost at these settings."""
    return Range.of(cost(**settings) if callable(cost) else cost)


def priced(problem: Problem, work: Callable[[], T]) -> tuple[T, Spent]:
    """Do the work and count its passes over the problem's data, also over parts of it; also inside inference mode."""
    began = perf_counter()
    with derivatives_on(), billed() as bill:  # tensors made under inference mode are of no use for derivatives
        answer = work()
    seconds = perf_counter() - began
    cost = bill.work / max(problem.extent.units, 1.0) if bill.work else 0.0
    return answer, Spent(cost, seconds, _largest(bill.disagreements))


def measured(function: Function[P]) -> Function[P]:
    """Decorator of every metric: its Estimate carries cost and data, whoever calls it."""

    @wraps(function)
    def stamped(problem: Problem, /, *args: P.args, **settings: P.kwargs) -> Estimate:
        name = getattr(function, "__name__", "")
        require(
            problem.shards is None or name in SHARDED,
            f"{name} needs whole vectors, got a sharded model; there are {', '.join(sorted(SHARDED))}",
        )
        generator = settings.get("generator")
        random_source(cast("torch.Generator | None", generator))  # refused also where it is not used
        found, spent = priced(problem, lambda: function(problem, *args, **settings))
        details = {**found.details, **({} if spent.verified is None else {"verified": spent.verified})}
        cost, seconds, data = spent.gradient_times, spent.seconds, str(problem.extent)
        return replace(found, details=details, gradient_times=cost, seconds=seconds, data=data)

    return stamped


def _largest(disagreements: Sequence[float]) -> float | None:
    """None where nothing was verified, NaN where a difference decided nothing."""
    unclear = any(map(isnan, disagreements))
    return (float("nan") if unclear else max(disagreements)) if disagreements else None
