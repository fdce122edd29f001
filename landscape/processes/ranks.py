"""Several processes, each with its own shard of the data: one all-reduce a pass joins their sums.

Σ_b u_b t_b and Σ_b u_b over all batches of all processes, so that a process counts for the units it holds, not for one
vote; a process without data adds zero. A flag travels with the sums: where one process fails, all raise, none waits for
it. All ranks get the same bits and repeat the same algorithm on them, so that vectors need no further exchange: random
ones are the same everywhere as long as the generators have the same seed.
"""

from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed
from torch.utils.data import Dataset, Subset

from landscape.checks import first_line

ProcessGroup = Any  # torch.distributed.ProcessGroup, which builds without torch.distributed lack

GONE = ("Connection closed", "Connection reset", "Broken pipe", "imed out", "timeout", "NCCL")  # torch's words

Sums = tuple[Tensor, float]  # Σ u t and Σ u


def shard(dataset: Dataset[Any], process_group: ProcessGroup) -> Subset[Any]:
    """This rank's samples, rank, rank + n, rank + 2n, ... with n processes: every sample once, none repeated.

    `torch.utils.data.DistributedSampler` repeats samples to make the shards equal and so changes the mean.

    Args:
        dataset: with a length, the same on all ranks.
        process_group: such as torch.distributed.group.WORLD.
    """
    if not isinstance(dataset, Sized):
        raise ValueError(f"dataset must have a length, got {type(dataset).__name__}; shard its source instead")
    rank, count = distributed.get_rank(process_group), distributed.get_world_size(process_group)
    return Subset(dataset, range(rank, len(dataset), count))


class WeightedSum:
    """Σ u t and Σ u, in float64."""

    def __init__(self) -> None:
        self.units = 0.0
        self._total = torch.zeros((), dtype=torch.float64, device="cpu")
        self._first: Tensor | None = None  # the only term so far: its mean is itself, in no more digits than it has

    @property
    def total(self) -> Tensor:
        """Σ u t."""
        return self._total if self._first is None else self._first.double() * self.units

    @total.setter
    def total(self, total: Tensor) -> None:
        self._total, self._first = total, None

    def add(self, term: Tensor, units: float) -> None:
        """One term more, with its units."""
        if self.units == 0:
            self._first = term.detach()
        else:
            self.total = self.total.add_(term.detach().double(), alpha=units)
        self.units += units

    def mean(self) -> Tensor:
        """Σ u t / Σ u. Raises ValueError where there was no unit."""
        if not self.units > 0:
            raise ValueError(
                "data must hold at least one batch of positive weight, got none; a generator can be read only once"
            )
        return self._total.div_(self.units) if self._first is None else self._first


@contextmanager
def sums_over(group: ProcessGroup | None, shape: Sequence[int], device: torch.device) -> Iterator[WeightedSum]:
    """A sum that holds, when the block has ended, what all processes have added to theirs.

    Args, raises: as `summed` has them, with the block in place of `local`.
    """
    sums, failure = WeightedSum(), None
    try:
        yield sums
    except Exception as error:  # whatever it is, the others must hear of it before this process leaves
        if group is None:
            raise
        failure = error

    def local() -> Sums:
        if failure is not None:
            raise failure
        return sums.total, sums.units

    if group is not None:
        sums.total, sums.units = summed(local, shape, device, group)


def summed(local: Callable[[], Sums], shape: Sequence[int], device: torch.device, group: ProcessGroup | None) -> Sums:
    """The sums of all processes, from those that `local` gives for this one. Every process must make the same call.

    Args:
        local: this process's sums in float64; a scalar zero stands for any shape where there was no batch.
        shape: of the total, the same on all ranks.
        device: where the group's backend reduces.
        group: None for one process: nothing is exchanged and `shape` not asked for.
    Raises:
        Exception: this process's own failure; ValueError where another one failed.
    """
    if group is None:
        return local()
    total, units, failure = torch.zeros((), dtype=torch.float64, device="cpu"), 0.0, None
    try:
        total, units = local()
        if units > 0 and total.shape != torch.Size(shape):
            raise ValueError(f"shape must be that of the term, {tuple(total.shape)}, got {tuple(shape)}; pass shape=")
    except Exception as error:  # whatever it is, the others must hear of it before this process leaves
        total, units, failure = torch.zeros((), dtype=torch.float64, device="cpu"), 0.0, error
    tail = torch.tensor([units, float(failure is not None)], dtype=torch.float64, device=device)
    message = torch.cat([total.to(device).expand(tuple(shape)).reshape(-1), tail])
    with answered():
        distributed.all_reduce(message, group=group)
    if failure is not None:
        raise failure
    if message[-1] > 0:
        raise ValueError(f"{int(message[-1])} other process(es) failed in this pass over the data; see their messages")
    return message[:-2].reshape(tuple(shape)), float(message[-2])


@contextmanager
def answered() -> Iterator[None]:
    """What torch says of a process that has ended, or does not answer in the group's time, in one line.

    Raises:
        RuntimeError: in its place.
    """
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error) for words in GONE):
            raise
        raise RuntimeError(
            f"a process of the group has ended or does not answer: {first_line(error)}; start all of them anew"
        ) from error


def added(numbers: Tensor, group: ProcessGroup) -> Tensor:
    """The sum of all processes' tensors of one shape, the same bits on all ranks."""
    total = numbers.clone(memory_format=torch.contiguous_format)
    with answered():
        distributed.all_reduce(total, group=group)
    return total


def span_of(size: int, group: ProcessGroup) -> slice:
    """The entries of a vector (size,) that this rank keeps where each keeps equally many, the last ones fewer."""
    rank, count = distributed.get_rank(group), distributed.get_world_size(group)
    width = -(-size // count)
    return slice(min(rank * width, size), min((rank + 1) * width, size))


def gathered(part: Tensor, size: int, group: ProcessGroup) -> Tensor:
    """Whole rows (n, size) on every rank, from the ranks' own entries (n, own) as `span_of` deals them out."""
    count = distributed.get_world_size(group)
    width = -(-size // count)
    padded = torch.nn.functional.pad(part, (0, width - part.shape[1])).contiguous()
    parts = [torch.empty_like(padded) for _ in range(count)]
    distributed.all_gather(parts, padded, group=group)
    return torch.cat(parts, dim=1)[:, :size]


def agree(numbers: Tensor, group: ProcessGroup) -> bool:
    """Whether all processes hold the same numbers (n,), up to rounding."""
    numbers = numbers.double()
    span = torch.cat([numbers, -numbers])
    distributed.all_reduce(span, op=distributed.ReduceOp.MAX, group=group)
    highest, lowest = span[: len(numbers)], -span[len(numbers) :]
    return bool((highest - lowest <= 1e-9 * highest.abs().maximum(lowest.abs())).all())
