"""The data of a problem: batches of inputs, targets and units, the same ones at every reading."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from landscape.checks import not_negative
from landscape.problem.batches import to_device, to_precision
from landscape.problem.cost import Extent
from landscape.problem.kept_workers import with_kept_workers
from landscape.problem.random_draws import read_apart
from landscape.problem.same_batches import SameBatches
from landscape.problem.split import Split, split_at
from landscape.problem.units import DefaultUnits, renewed

Weight = Callable[[Any, Any], "float | Tensor"]
Item = tuple[int, Any, Any, float]  # index, inputs, targets and units of a batch


@dataclass(frozen=True, eq=False)
class DataReader:
    """How the data of a `Problem` is read, see there; `items` are the batches, where they are kept in memory."""

    data: Iterable[Any]
    split: Split
    weight: Weight
    dtype: torch.dtype | None
    draws: int
    items: list[Item] | None = None
    counted: Extent = field(default_factory=Extent)  # by the last whole reading
    same: SameBatches = field(default_factory=SameBatches)  # as those of the first reading

    @cached_property
    def source(self) -> Iterable[Any]:
        """The data, by workers that stay where it has some."""
        return with_kept_workers(self.data)

    def anew(self, *, by_entries: bool, **changes: Any) -> "DataReader":
        """Another reader, which has counted nothing yet; among several processes units are counted `by_entries`."""
        weight = renewed(self.weight, by_entries=by_entries)
        return replace(self, **{"weight": weight, "items": None, "counted": Extent(), "same": SameBatches(), **changes})

    def in_memory(self, device: torch.device) -> "DataReader":
        """The same batches, read once, here, and kept on the device: others may come at other readings."""
        return replace(self, items=list(replace(self, same=self.same.anew()).read(device)))

    def read(self, device: torch.device) -> Iterator[Item]:
        """Index, inputs, targets and units of each batch of positive weight.

        Raises:
            ValueError: if a batch cannot be taken apart, or is not that of the first reading.
        """
        if self.items is not None:
            yield from self.items
            return
        fixed, count = isinstance(self.data, list | tuple), 0
        with self.same.reading(self.generators):
            for index, item in enumerate(read_apart(self.source, self.draws)):
                inputs, targets = split_at(index, item, self.split)
                if not fixed:
                    self.same.check(index, (inputs, targets))
                units = float(self.weight(inputs, targets))
                not_negative(f"batch {index}: weight", units)
                if units > 0:
                    inputs, targets = (to_precision(to_device(part, device), self.dtype) for part in (inputs, targets))
                    yield index, inputs, targets, units
                count = index + 1
        if not fixed:
            self.same.end(count)

    def extent(self, device: torch.device) -> Extent:
        """Units and batches: as counted by the first whole reading, or by reading the data once."""
        if self.counted.batches == 0:
            found = Extent()
            for *_, units in self.read(device):
                found.add(units)
            self.note(found)
        return self.counted

    def note(self, seen: Extent) -> None:
        """Keep what a whole reading has counted."""
        self.counted.units, self.counted.batches = seen.units, seen.batches

    @property
    def counts_samples(self) -> bool:
        """Whether each sample that counts at all is one unit: the default."""
        return isinstance(self.weight, DefaultUnits) and self.weight.class_weight is None

    def sample_units(self, targets: Tensor) -> Tensor:
        """Units of each sample, (B,) float64, where `counts_samples`."""
        assert isinstance(self.weight, DefaultUnits)
        return self.weight.of_each(targets)

    @property
    def generators(self) -> list[torch.Generator]:
        """The generators that a reading moves on: the loader's and its samplers'."""
        batches = getattr(self.data, "batch_sampler", None)
        sources = [self.data, getattr(self.data, "sampler", None), batches, getattr(batches, "sampler", None)]
        found = [getattr(source, "generator", None) for source in sources]
        return [generator for generator in found if isinstance(generator, torch.Generator)]
