"""Metrics of one problem and what they share, each computed once and billed once.

Each draws from its own random numbers, seeded from the analysis' seed and its name, so that no value depends on what
else is asked for, in which order, or whether it was done before a kill or after.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from traceback import clear_frames
from typing import Any
from zlib import crc32

import torch

from landscape.metrics import METRICS
from landscape.metrics.measured import expected, priced
from landscape.metrics.shared import SHARED
from landscape.problem import Problem
from landscape.storage.results import Estimate
from landscape.storage.results.measurements import Spent


class SharedComputation:
    """What is done so far of an analysis.

    Args:
        problem: the scalar function.
        settings: metric to keyword arguments that replace its defaults.
        seed: of all random numbers.
        note: told of shared work when it is done, by what it is, and its cost.
    """

    def __init__(
        self,
        problem: Problem,
        settings: Mapping[str, Mapping[str, Any]],
        seed: int,
        note: Callable[[str, Spent], None],
    ) -> None:
        self.problem, self.settings, self.seed, self.note = problem, settings, seed, note
        self.done: dict[str, Any] = {}  # shared work, metrics, or the error of either

    def estimate(self, name: str) -> Estimate:
        """The metric's result, now or from before. Raises what the metric raises."""
        return self._once(name, lambda: self._measure(name))

    def shared(self, key: str) -> Any:
        """Shared work, now or from before; the metric of that name, for one that builds on it."""
        if key not in SHARED:
            unknown = key not in self.done
            found = self.estimate(key)
            if unknown:
                self.note(key, Spent(found.gradient_times or 0.0, found.seconds or 0.0))
            return found
        return self._once(key, lambda: self._share(key))

    def expected(self, name: str) -> float:
        """Gradient-times that the metric will take, about, with the shared work that is still to do."""
        return self._expected(name, set())

    def expected_together(self, names: Sequence[str]) -> dict[str, float]:
        """The same for several, cheapest first; shared work is in the first one that needs it."""
        counted: set[str] = set()
        return {name: self._expected(name, counted) for name in sorted(names, key=self.expected)}

    def _expected(self, name: str, counted: set[str]) -> float:
        if name in self.done or name in counted:
            return 0.0
        counted.add(name)
        if name in SHARED:
            return SHARED[name].about + sum(self._expected(key, counted) for key in SHARED[name].needs)
        given = dict.fromkeys(self._wanted(name), True)
        own = expected(METRICS[name], {**given, **self.settings.get(name, {})}, self.problem.extent.units)
        return own + sum(self._expected(key, counted) for key in given)

    def _wanted(self, name: str) -> Iterator[str]:
        """Shared work that the metric takes at its settings."""
        own = self.settings.get(name, {})
        for key, parameter in inspect.signature(METRICS[name]).parameters.items():
            shared = SHARED.get(key)
            if shared and parameter.annotation == shared.kind | None and not {key, *shared.unless} & set(own):
                yield key
            if key in METRICS and not own and not self.settings.get(key):  # at other settings it is another number
                yield key

    def _measure(self, name: str) -> Estimate:
        common = {key: self.shared(key) for key in self._wanted(name)}
        return METRICS[name](self.problem, **common, **self.settings.get(name, {}), generator=self._generator(name))

    def _share(self, key: str) -> Any:
        needs = [self.shared(other) for other in SHARED[key].needs]
        found = priced(self.problem, lambda: SHARED[key].make(self.problem, *needs, generator=self._generator(key)))
        self.note(SHARED[key].what, Spent(found.gradient_times, found.seconds, found.verified))
        return found.answer

    def _once(self, name: str, compute: Callable[[], Any]) -> Any:
        if name not in self.done:
            try:
                self.done[name] = compute()
            except Exception as error:  # a metric may raise anything: the others go on
                clear_frames(error.__traceback__)  # which hold on to tensors, up to whole graphs
                self.done[name] = error
        if isinstance(self.done[name], Exception):
            raise self.done[name]
        return self.done[name]

    def _generator(self, name: str) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed + crc32(name.encode()))
