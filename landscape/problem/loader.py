"""A DataLoader with workers, read pass after pass without starting its workers anew.

A pass begins as if it had started them: their random numbers go back to where they began, and what the loader would
draw for them is drawn. So batches are those of fresh workers, to the bit, shuffled and augmented ones too. A stream's
workers may have more than random numbers to go back to, and are kept only where the loader says persistent_workers.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset


class KeptWorkers:
    """The batches of a loader: an iterable that can be read again, by the same workers.

    One pass at a time has them; one that begins before another has ended starts its own.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader, self._twin, self._passes, self._busy = loader, _twin(loader), 0, False

    def __iter__(self) -> Iterator[Any]:
        if self._busy:
            yield from self._loader
            return
        self._busy = True
        try:
            if self._passes:  # the seed of the workers, which have it
                torch.empty((), dtype=torch.int64, device="cpu").random_(generator=self._loader.generator)
            self._passes += 1
            yield from self._twin
        finally:
            self._busy = False


def kept_workers(data: Iterable[Any]) -> Iterable[Any]:
    """The data itself, or where it is a DataLoader with workers one that keeps them."""
    plain = isinstance(data, DataLoader) and type(data).__iter__ is DataLoader.__iter__
    if not (plain and data.num_workers > 0):
        return data
    return data if isinstance(data.dataset, IterableDataset) and not data.persistent_workers else KeptWorkers(data)
