"""What a worker process does for a data set that is read lazily: single items, checked and put together as batches."""

import random
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import current_process
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate, get_worker_info

from landscape.checks import first_line, require
from landscape.side_effects import random_state, random_state_kept, seed_of

Batch = tuple[Tensor, Tensor, Tensor]  # inputs, targets, places (B, ...)
Key = tuple[int, list[int], list[int]]  # seed, places in the part, places in the data set
CONTEXT = "fork" if sys.platform == "linux" else None  # a function's file is no module that could be imported anew


@dataclass(frozen=True)
class Failure:
    """What went wrong in a worker."""

    message: str


@dataclass(frozen=True, eq=False)
class Sample:
    """An item of a data set as tensors.

    Args:
        source: the data set.
        name: for messages.
        classes: their number.
        shifts: (N,), added to the labels, modulo the classes: label noise.
    """

    source: Any
    name: str
    classes: int
    shifts: Tensor | None = None

    def at(self, place: int, seed: int) -> tuple[Tensor, Tensor]:
        """Of a map-style set, with random numbers that follow from the seed and the place."""
        seeded(seed, place)
        try:
            item = self.source[place]
        except Exception as error:  # whatever the user's code raises
            raise ValueError(f"item {place}: {_kind(error)}{first_line(error)}") from error
        x, y = self.checked(item, f"item {place}")
        if self.shifts is not None and self.shifts[place]:
            require(y.ndim == 0, f"label_noise must be 0 where an input has several labels, got {tuple(y.shape)}")
            y = (y + self.shifts[place]) % self.classes
        return x, y

    def checked(self, item: Any, where: str) -> tuple[Tensor, Tensor]:
        """Input and target (int64). Raises ValueError if it is something else."""
        pair = isinstance(item, tuple | list) and len(item) == 2
        require(pair, f"{where} must be (input, target), got {type(item).__name__}")
        x, y = item
        tensor = isinstance(x, Tensor | np.ndarray)
        require(tensor, f"{where} must have a tensor or an array as its input, got {type(x).__name__}")
        try:
            y = torch.as_tensor(y, device="cpu")
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{where} must have a whole-numbered target, got {type(y).__name__}") from error
        whole = not (y.is_floating_point() or y.is_complex()) and y.numel() > 0
        require(whole, f"{where} must have a whole-numbered target, got {y.dtype} {tuple(y.shape)}")
        low, high = int(y.min()), int(y.max())
        require(
            low >= 0 and high < self.classes, f"{where}: labels must be in [0, {self.classes}), got {low} to {high}"
        )
        return torch.as_tensor(x).detach().cpu(), y.long()

    def failure(self, error: Exception) -> Failure:
        """The error in one line."""
        return Failure(f"dataset {self.name}: {_kind(error)}{first_line(error)}")


class Chosen(Dataset[Any]):
    """Batches of a map-style set by their keys."""

    def __init__(self, sample: Sample) -> None:
        self.sample = sample

    def __getitem__(self, key: Key) -> Batch | Failure:
        seed, index, places = key
        with random_state_kept():
            try:
                items = [self.sample.at(place, seed) for place in places]
                return joined_items(items, torch.tensor(index, device="cpu"))
            except Exception as error:  # whatever the user's code raises
                return self.sample.failure(error)


class Stream(IterableDataset[Any]):
    """Batches of a stream, as this worker gets them."""

    def __init__(self, sample: Sample, size: int, seed: int, epoch: int) -> None:
        self.sample, self.size, self.seed, self.epoch = sample, size, seed, epoch

    def __iter__(self) -> Iterator[Batch | Failure]:
        """In the process that trains, too, whose own random numbers stay as they are."""
        worker = get_worker_info()
        outside = random_state()
        seeded(self.seed, worker.id if worker else 0)
        source, met = None, 0
        batch: Batch | Failure | None
        while True:
            try:
                source = self._begun() if source is None else source
                items = [
                    self.sample.checked(item, f"item {met + i}") for i, item in enumerate(islice(source, self.size))
                ]
                batch = joined_items(items, torch.arange(met, met + len(items), device="cpu")) if items else None
            except Exception as error:  # whatever the user's code raises
                batch = self.sample.failure(error)
            inside = random_state()
            outside()
            if batch is None:
                return
            yield batch
            if isinstance(batch, Failure):
                return
            met += len(items)
            outside = random_state()
            inside()

    def _begun(self) -> Iterator[Any]:
        if callable(getattr(self.sample.source, "set_epoch", None)):
            self.sample.source.set_epoch(self.epoch)
        return iter(self.sample.source)


def _kind(error: Exception) -> str:
    return "" if isinstance(error, ValueError) else f"{type(error).__name__}: "


def joined_items(items: Sequence[tuple[Tensor, Tensor]], index: Tensor) -> Batch:
    """Items as one batch. Raises ValueError if their shapes differ."""
    inputs, targets = zip(*items, strict=True)
    for name, parts in (("inputs", inputs), ("targets", targets)):
        other = next((part for part in parts if part.shape != parts[0].shape), parts[0])
        same = other.shape == parts[0].shape
        require(same, f"{name} must be of one shape, got {tuple(parts[0].shape)} and {tuple(other.shape)}")
    x, y = (default_collate(list(parts)) for parts in (inputs, targets))  # in a worker, into shared memory
    return x, y, index


def seeded(*numbers: int) -> None:
    """Seed Python's, NumPy's and torch's generators of the CPU."""
    seed = seed_of(*numbers)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


def loaded(
    dataset: Dataset[Any], workers: int, pinned: bool, seed: int, keys: Sequence[Key] | None = None
) -> Generator[Batch]:
    """The batches, read ahead by the workers. Raises ValueError in one line for what went wrong there."""
    require(
        workers == 0 or not current_process().daemon,
        f"workers={workers} need a process that may start others, which Dask's are with "
        "DASK_DISTRIBUTED__WORKER__DAEMON=False in the environment; set it there, or take workers=0",
    )
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=None,
        sampler=keys,
        num_workers=workers,
        pin_memory=pinned,
        collate_fn=_as_it_is,
        generator=torch.Generator().manual_seed(seed % 2**63),
        multiprocessing_context=CONTEXT if workers else None,
    )
    batches = iter(loader)
    try:
        for batch in batches:
            if isinstance(batch, Failure):
                raise ValueError(batch.message)
            yield batch[0], batch[1], batch[2]
    finally:
        del batches  # which ends the workers now: left to the garbage collector they are waited for, 5 s each


@contextmanager
def worker_deaths_told() -> Iterator[None]:
    """A worker that is gone raises RuntimeError wherever its parent is: a ValueError of one line."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise ValueError(
            f"a process that reads the data is gone: {first_line(error)}; with less memory or fewer workers the same "
            "folder goes on"
        ) from error


def _as_it_is(batch: Any) -> Any:
    return batch
