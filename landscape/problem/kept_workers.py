"""A DataLoader with workers, read pass after pass without starting its workers anew.

A pass begins as if it had started them: their random numbers go back to where they began, and what the loader would
draw for them is drawn. So batches are those of fresh workers to the bit, shuffled and augmented ones too. Workers of a
stream may have more than random numbers to go back to: they are kept only where the loader says persistent_workers.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch.utils.data import DataLoader, IterableDataset

from landscape.side_effects import random_state


def with_kept_workers(data: Iterable[Any]) -> Iterable[Any]:
    """The data itself, or where it is a DataLoader with workers one that keeps them, the same for all who ask."""
    if not (isinstance(data, DataLoader) and type(data).__iter__ is DataLoader.__iter__ and data.num_workers > 0):
        return data
    if isinstance(data.dataset, IterableDataset) and not data.persistent_workers:
        return data
    found = _shared.get(id(data)) or KeptWorkers(data)
    _shared[id(data)] = found
    return found


class KeptWorkers:
    """The batches of a loader, an iterable that can be read again; the workers live as long as it does.

    One pass at a time has them; one that begins before another has ended starts its own. Where workers would have other
    seeds they are started anew.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader, self._twin, self._busy, self._seed = loader, _twin(loader), False, -1

    def __iter__(self) -> Iterator[Any]:
        if self._busy:
            yield from self._loader
            return
        seed = self._next_seed()
        if seed != self._seed:
            self._twin, self._seed = _twin(self._loader), seed
        self._busy = True
        try:
            yield from self._twin
        except Exception:  # a worker may be gone
            self._seed = -1
            raise
        finally:
            self._busy = False

    def _next_seed(self) -> int:
        """What the loader would draw for its workers."""
        source = self._loader.generator or torch.default_generator
        state = source.get_state()
        seed = _drawn(source)
        source.set_state(state)
        return seed

    def __reduce__(self) -> tuple[Any, ...]:  # workers belong to this process
        return KeptWorkers, (self._loader,)


_shared: WeakValueDictionary[int, KeptWorkers] = WeakValueDictionary()  # by the loader's id, which each holds


def _drawn(source: torch.Generator | None) -> int:
    return int(torch.empty((), dtype=torch.int64, device="cpu").random_(generator=source))


def _twin(loader: DataLoader[Any]) -> DataLoader[Any]:
    """The same loader with workers that persist, and with indices that tell them of a new pass."""
    twin = copy(loader)
    indices = "sampler" if loader.batch_sampler is None else "batch_sampler"
    changes = {"persistent_workers": True, "_iterator": None, indices: _Indices(loader, getattr(loader, indices))}
    vars(twin).update(changes)  # DataLoader allows no other way
    return twin


STARTS = 2  # times that a loader which starts workers asks for indices


class _Indices:
    """A sampler's indices, each with the number of its pass."""

    def __init__(self, loader: DataLoader[Any], sampler: Iterable[Any]) -> None:
        self.loader, self.sampler, self.begun = loader, sampler, 0

    def __iter__(self) -> Iterator["_Index"]:
        """Anew for each pass. Where workers start, their seed is drawn after indices were asked for the first time."""
        self.begun += 1
        indices = iter(self.sampler)
        if self.begun > STARTS:
            _drawn(self.loader.generator)
            indices = iter(self.sampler)
        number = max(self.begun, STARTS)
        return (_Index(number, index) for index in indices)

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]


class _Index:
    """An index that puts a worker's random numbers back when it arrives there as the first one of a pass."""

    def __init__(self, number: int, index: Any) -> None:
        self.number, self.index = number, index

    def __reduce__(self) -> tuple[Callable[[int, Any], Any], tuple[int, Any]]:
        return _arrived, (self.number, self.index)


_at: dict[int, tuple[int, Callable[[], None]]] = {}  # process to the pass it is at, and the way back to its beginning


def _arrived(number: int, index: Any) -> Any:
    before = _at.get(os.getpid())
    if before is None:
        _at[os.getpid()] = number, random_state()
    elif before[0] != number:
        before[1]()
        _at[os.getpid()] = number, before[1]
    return index
