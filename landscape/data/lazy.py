"""A data set that is read sample by sample while it is used, by worker processes, and never held as a whole.

Random numbers that an item draws from the global generators of torch, NumPy and Python follow from a seed and the
item's place; of a stream from the seed and the worker. So an epoch is the same one whoever reads it, and when.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from landscape.checks import require
from landscape.data.images import noisy_places
from landscape.data.policies import Span
from landscape.data.workers import Batch, Chosen, Sample, Stream, loaded

FIXED = 0  # seed of every reading that is none of the training's
SHOWN = 8  # items that tell one data set from another


@dataclass(frozen=True, eq=False)
class Part:
    """A training or a test set: a map-style data set, or some of its places, or a stream."""

    sample: Sample
    places: Tensor | None  # (M,) of the data set; None: a stream
    workers: int = 0
    pinned: bool = False
    steps: int = 0  # batches after which a reading of a stream ends; 0: when it ends itself

    @property
    def count(self) -> int | None:
        """Samples; None for a stream."""
        return None if self.places is None else len(self.places)

    def read(self, order: Sequence[Tensor], seed: int) -> Iterator[Batch]:
        """Inputs, targets and places in this part of batches `order`, of a map-style set."""
        assert self.places is not None
        keys = [(seed, index.tolist(), self.places[index].tolist()) for index in order]
        yield from loaded(Chosen(self.sample), self.workers, self.pinned, seed, keys)

    def stream(self, size: int, seed: int, epoch: int = 0, skipped: int = 0) -> Iterator[Batch]:
        """The same of a stream, from its beginning, without the first so many batches."""
        made = loaded(Stream(self.sample, size, seed, epoch), self.workers, self.pinned, seed)
        for number, batch in enumerate(islice(_divided(self.sample.name, made), self.steps or None)):
            if number >= skipped:
                yield batch

    def batches(self, size: int, samples: int | None = None) -> "Reading":
        """Pairs (inputs, targets) of the first `samples`, as an iterable that reads them anew each time."""
        return Reading(self, size, samples)

    def first(self, samples: int) -> tuple[Tensor, Tensor]:
        """The first so many, in memory."""
        (pair,) = replace(self, workers=0, pinned=False, steps=1).batches(samples, samples)
        return pair

    def shown(self) -> tuple[Tensor, Tensor]:
        """Some samples from all over the set; of a stream the first ones."""
        if self.count is None or self.count <= SHOWN:
            return self.first(SHOWN)
        spread = torch.linspace(0, self.count - 1, SHOWN, device="cpu").long()
        return next(replace(self, workers=0, pinned=False).read([spread], FIXED))[:2]


@dataclass(frozen=True)
class Reading:
    """Batches of a part, read anew each time."""

    part: Part
    size: int
    samples: int | None

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        part, left, met = self.part, self.samples, 0
        if part.count is not None:
            order = torch.arange(part.count, device="cpu")[:left].split(self.size)
            read = part.read(order, FIXED) if part.count else iter(())
        else:
            read = part.stream(self.size, FIXED)
        for x, y, _ in read:
            kept = len(y) if left is None else min(left - met, len(y))
            yield x[:kept], y[:kept]
            met += kept
            if met == left:
                return
        require(met > 0, f"dataset {part.sample.name} must give at least one item each time it is read, got none")


@dataclass(frozen=True, eq=False)
class Lazy:
    """Training and test set, read as they are used. Label noise, where there is any, is in the training set only."""

    train: Part
    test: Part
    classes: int
    span: Span | None = None  # inputs of a black and of a white pixel, (1, channels, 1, 1) each
    class_names: tuple[str, ...] = ()

    @property
    def count(self) -> int | None:
        """Training samples; None for a stream."""
        return self.train.count

    @cached_property
    def pixel_span(self) -> Span:
        """`span`; where it is not known, each channel's least and largest value in the training set, read once.

        Raises:
            ValueError: if the inputs are no images.
        """
        if self.span is not None:
            return self.span
        black, white = [], []
        for x, _ in self.train.batches(64):
            are = x.ndim == 4 and x.is_floating_point()
            require(are, f"inputs must be images (N, channels, height, width), got {x.dtype} {tuple(x.shape)}")
            black.append(x.amin((0, 2, 3), keepdim=True))
            white.append(x.amax((0, 2, 3), keepdim=True))
        return torch.cat(black).amin(0, keepdim=True), torch.cat(white).amax(0, keepdim=True)

    def first(self, samples: int) -> tuple[Tensor, Tensor]:
        """The first so many training samples, in memory."""
        return self.train.first(samples)

    def shown(self) -> tuple[Tensor, Tensor]:
        """Some training samples."""
        return self.train.shown()

    def batches(self, of: str, size: int, samples: int | None = None) -> Reading:
        """Pairs (inputs, targets) of "train" or "test", read anew each time."""
        return {"train": self.train, "test": self.test}[of].batches(size, samples)

    def read_by(self, workers: int, *, pinned: bool = False, steps: int = 0) -> "Lazy":
        """The same, read by so many processes, into pinned memory; `steps` batches of a training stream a reading."""
        train, test = (replace(part, workers=workers, pinned=pinned) for part in (self.train, self.test))
        return replace(self, train=replace(train, steps=steps if self.count is None else 0), test=test)

    def with_label_noise(self, fraction: float, seed: int) -> "Lazy":
        """See `Images.with_label_noise`: the same labels are wrong as where the set is in memory.

        Raises:
            ValueError: if fraction is outside [0, 1], or there is some and the training set is a stream.
        """
        require(0 <= fraction <= 1, f"label_noise must be in [0, 1], got {fraction!r}")
        if not fraction:
            return self
        if self.count is None:
            raise ValueError(f"label_noise must be 0 for a stream, whose items have no places, got {fraction}")
        chosen, shift = noisy_places(self.count, self.classes, fraction, seed)
        shifts = torch.zeros(self.count, dtype=torch.long, device="cpu")
        shifts[chosen] = shift
        sample = replace(self.train.sample, shifts=shifts)
        return replace(self, train=replace(self.train, sample=sample))


def lazy(name: str, made: Sequence[Any], classes: Any, **facts: Any) -> Lazy:
    """Training and test set from two of torch's data sets.

    Args:
        name: of the data set, for messages.
        made: the two; a map-style set has a length and items (input, target), a stream gives such items.
        classes: their number, or something as long, such as their names.
        facts: span and class_names, where they are known.
    Raises:
        ValueError: if one is no such data set.
    """
    number = classes if isinstance(classes, int) else len(classes if classes is not None else ())
    require(
        number > 0,
        f"dataset {name}, which is read lazily, must say its classes: give train.classes, their names or their number",
    )
    parts = []
    for source, of in zip(made, ("train", "test"), strict=True):
        sample = Sample(source, f"{name} ({of})", number)
        if isinstance(source, IterableDataset):
            parts.append(Part(sample, None))
            continue
        fits = hasattr(source, "__getitem__") and hasattr(source, "__len__")
        require(fits, f"dataset {name} must give a data set of items (input, target), got {type(source).__name__}")
        require(len(source) > 0, f"dataset {sample.name} must hold at least one item, got none")
        parts.append(Part(sample, torch.arange(len(source), device="cpu")))
    return Lazy(parts[0], parts[1], number, **facts)


def _divided(name: str, made: Generator[Batch]) -> Iterator[Batch]:
    """The batches. Raises ValueError where the second, another worker's, is the first."""
    before: Tensor | None = None
    with closing(made):
        for number, batch in enumerate(made):
            same = before is not None and len(before) > 1 and torch.equal(before, batch[0])
            require(
                not same,
                f"dataset {name} must not give the same items twice: among several workers the stream divides itself "
                "by torch.utils.data.get_worker_info()",
            )
            before = batch[0] if number == 0 else None
            yield batch


def distinguishing(pair: tuple[Tensor, Tensor], count: int | None) -> list[float]:
    """Numbers that tell a data set from another one, from some of its samples: mean inputs, labels, its size.

    Means are rounded: what standardises them may differ in the last bits from machine to machine.
    """
    x, y = pair
    means = x.flatten(1).double().mean(1) if x.ndim > 1 else x.double()
    return [float(count or 0), *np.round(means.numpy(), 3).tolist(), *y.flatten()[: 8 * SHOWN].double().tolist()]
