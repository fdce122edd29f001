"""Metrics of one problem and what they share, each computed once and billed once.

Each draws from its own random numbers, seeded from the analysis' seed and its name, so that no value depends on what
else is asked for, in which order, or whether it was done before a kill or after.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from traceback import clear_frames
from typing import TypeVar
from zlib import crc32

import torch

from landscape.metrics.metric import Metric, Settings, expected, priced
from landscape.metrics.shared import SHARED
from landscape.problem import Problem
from landscape.problem.cost import Range
from landscape.storage.results import Estimate
from landscape.storage.results.measurements import Spent

T = TypeVar("T")
NOTHING = Range(0.0, 0.0)


class SharedComputation:
    """What is done so far of an analysis.

    Args:
        problem: the scalar function.
        metrics: the records by name; those that are asked for, and those that they need.
        settings: metric to keyword arguments that replace its defaults.
        seed: of all random numbers.
        note: told of shared work when it is done, by what it is, and its cost.
    """

    def __init__(
        self,
        problem: Problem,
        metrics: Mapping[str, Metric],
        settings: Mapping[str, Settings],
        seed: int,
        note: Callable[[str, Spent], None],
    ) -> None:
        self.problem, self.metrics, self.settings, self.seed, self.note = problem, metrics, settings, seed, note
        self.estimates: dict[str, Estimate | Exception] = {}  # of metrics that are done
        self.work: dict[str, object] = {}  # shared work that is done, or its error

    def estimate(self, name: str) -> Estimate:
        """The metric's result, now or from before. Raises what the metric raises."""
        return _once(self.estimates, name, lambda: self._measure(name))

    def shared(self, key: str) -> object:
        """Shared work, now or from before; the metric of that name, for one that builds on it."""
        if key not in SHARED:
            unknown = key not in self.estimates
            found = self.estimate(key)
            if unknown:
                self.note(key, Spent(found.gradient_times or 0.0, found.seconds or 0.0))
            return found
        return _once(self.work, key, lambda: self._share(key))

    def uses(self, name: str) -> list[str]:
        """The shared work that the metric stands on, as the table of costs names it."""
        return stands_on(self._shared_with(name), self._shared_with)

    def expected(self, name: str) -> Range:
        """Gradient-times that the metric will take, about, with the shared work that is still to do."""
        return self._expected(name, set())

    def expected_together(self, names: Sequence[str]) -> dict[str, Range]:
        """The same for several, cheapest first; shared work is in the first one that needs it."""
        counted: set[str] = set()
        ordered = sorted(names, key=lambda name: self.expected(name).middle)
        return {name: self._expected(name, counted) for name in ordered}

    def _expected(self, name: str, counted: set[str]) -> Range:
        if name in counted or name in self.estimates or name in self.work:
            return NOTHING
        counted.add(name)
        size = {"size": self.problem.size}
        if name in SHARED:
            return expected(SHARED[name].cost, size) + sum(
                (self._expected(key, counted) for key in SHARED[name].needs), NOTHING
            )
        metric, own = self.metrics[name], self.settings.get(name, {})
        shared = self._shared_with(name)
        alone = [key for key in metric.needs if key not in shared and key not in own]
        settings, units = metric.all_settings(own), self.problem.extent.units
        costs = [
            expected(SHARED[key].cost, {**settings, **size})
            if key in SHARED
            else self.metrics[key].expected(settings, units)
            for key in alone
        ]
        return sum([*costs, *(self._expected(key, counted) for key in shared)], metric.expected(own, units))

    def _shared_with(self, name: str) -> list[str]:
        """What the metric needs at its settings that others need too; at other settings it is other work."""
        return shared_with(self.metrics[name], self.settings.get(name, {}), self.settings)

    def _measure(self, name: str) -> Estimate:
        common = {key: self.shared(key) for key in self._shared_with(name)}
        own = {**common, **self.settings.get(name, {}), "generator": self._generator(name)}
        return self.metrics[name](self.problem, **own)

    def _share(self, key: str) -> object:
        needs = [self.shared(other) for other in SHARED[key].needs]
        work = partial(SHARED[key].make, self.problem, *needs, generator=self._generator(key))
        found, spent = priced(self.problem, work)
        self.note(SHARED[key].what, spent)
        return found

    def _generator(self, name: str) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed + crc32(name.encode()))


def shared_with(metric: Metric, own: Settings, settings: Mapping[str, Settings]) -> list[str]:
    """What a metric needs at its own settings, beside those of others, that others need too."""
    return [
        key
        for key in metric.needs
        if (not {key, *SHARED[key].unless} & set(own) if key in SHARED else not own and not settings.get(key))
    ]


def stands_on(keys: Iterable[str], needs: Callable[[str], Iterable[str]]) -> list[str]:
    """Shared work with all that it needs itself, by the names of the table of costs, each once."""
    found: dict[str, None] = {}
    for key in keys:
        below = SHARED[key].needs if key in SHARED else needs(key)
        found |= dict.fromkeys([*stands_on(below, needs), SHARED[key].what if key in SHARED else key])
    return list(found)


def _once(done: dict[str, T | Exception], name: str, compute: Callable[[], T]) -> T:
    """What is done already, or computed now; an error is raised again."""
    if name not in done:
        try:
            done[name] = compute()
        except Exception as error:  # a metric may raise anything: the others go on
            clear_frames(error.__traceback__)  # which hold on to tensors, up to whole graphs
            done[name] = error
    found = done[name]
    if isinstance(found, Exception):
        raise found
    return found
