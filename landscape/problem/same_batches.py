"""Whether every pass over the data gives the batches of the first one: a loss on other data is another function."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from landscape.checks import require
from landscape.problem.batches import tensors_of

SEEN = 64  # numbers of a tensor that tell it from another one; our choice
CURE = (
    "keep them by problem.with_batches_kept(), or let the data shuffle by a fixed seed or by the global generators, "
    "which are put back for each pass"
)


@dataclass(eq=False)
class SameBatches:
    """A checksum of each batch of the first pass, with the states that its generators began it with."""

    checksums: list[int] = field(default_factory=list)
    complete: bool = False  # a whole pass has been seen
    _states: list[Tensor] | None = None

    @contextmanager
    def reading(self, generators: Sequence[torch.Generator]) -> Iterator[None]:
        """A pass, which the generators begin where they began the first one; they are put back afterwards."""
        before = [generator.get_state() for generator in generators]
        self._states = before if self._states is None else self._states
        try:
            for generator, state in zip(generators, self._states, strict=True):
                generator.set_state(state)
            yield
        finally:
            for generator, state in zip(generators, before, strict=True):
                generator.set_state(state)

    def anew(self) -> "SameBatches":
        """For one more first pass, which begins alike."""
        return SameBatches(_states=self._states)

    def check(self, index: int, batch: Any) -> None:
        """Raise a ValueError where the batch is not that of the first pass."""
        found = checksum(batch)
        if index == len(self.checksums) and not self.complete:
            self.checksums.append(found)
        same = index < len(self.checksums) and self.checksums[index] == found
        require(same, f"data must give the same batches at every pass, got another batch {index}; {CURE}")

    def end(self, count: int) -> None:
        """A pass of so many batches has ended; one of none is told elsewhere."""
        whole = count in (0, len(self.checksums))
        require(whole, f"data must give the same batches at every pass, got {count} of {len(self.checksums)}; {CURE}")
        self.complete = self.complete or count > 0


def checksum(batch: Any) -> int:
    """Of some numbers of each tensor: a few microseconds where a sum of all would cost a pass through memory."""
    found = 0
    for tensor in tensors_of(batch):
        with suppress(RuntimeError):  # of tensors that are not strided
            strides = tensor.stride()
            inwards = sorted(range(tensor.ndim), key=strides.__getitem__, reverse=True)  # as it lies in memory
            flat = tensor.detach().permute(inwards).reshape(-1)
            found = crc32(str(flat[:: 1 + flat.numel() // SEEN].tolist()).encode(), found)
    return found
