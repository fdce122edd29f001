"""What an operator holds on to between products: batches on the device, and first-order graphs as far as they fit.

A kept graph saves a gradient a product, a kept batch saves reading and moving it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from landscape.batches import nbytes
from landscape.program import Batch
from landscape.vectors import Block

Product = Callable[[Block], Block]

DOUBLE_BACKWARD = 3  # a graph of first and second order in units of what the forward pass saves, measured 2.5-3


@dataclass(eq=False)
class Held:
    """A batch as the data gave it, and its product once the graph behind it is kept."""

    batch: Batch
    keep: bool
    product: Product | None = None


@dataclass(eq=False)
class Kept:
    """The batches of one pass, in order, within `graph_bytes` for graphs and `batch_bytes` for inputs and targets.

    Attributes:
        complete: a pass has ended and all its batches are here, so that the data need not be read again.
        too_large: the batches do not fit; nothing is held from then on.
    """

    graph_bytes: int
    batch_bytes: int
    held: list[Held] = field(default_factory=list)
    complete: bool = False
    too_large: bool = False
    _room: int = 0
    _sizes: dict[int, int] = field(default_factory=dict)  # a batch's bytes to those of its graph

    def begin(self) -> None:
        """A new pass over the data, also after one that raised."""
        self.held.clear()
        self._room = self.graph_bytes

    def take(self, batch: Batch) -> Held:
        """The batch as it will be held, if it fits."""
        spent = sum(nbytes((held.batch.inputs, held.batch.targets)) for held in self.held)
        own = nbytes((batch.inputs, batch.targets))
        self.too_large = self.too_large or spent + own > self.batch_bytes
        if self.too_large:
            self.held.clear()
            return Held(batch, keep=False)
        self.held.append(Held(batch, keep=self._graph_fits(batch, own)))
        return self.held[-1]

    def drop_graphs(self) -> bool:
        """Make room. False if no graph was kept."""
        found = any(held.keep for held in self.held) or self.graph_bytes > 0
        self.graph_bytes = self._room = 0
        for held in self.held:
            held.keep, held.product = False, None
        return found

    def _graph_fits(self, batch: Batch, own: int) -> bool:
        if self._room <= 0:
            return False
        if own not in self._sizes:
            self._sizes[own] = DOUBLE_BACKWARD * saved_bytes(batch)
        self._room -= self._sizes[own]
        return self._room > 0


def saved_bytes(batch: Batch) -> int:
    """What the forward pass of a batch saves for backward, in bytes; one forward pass."""
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    with saved_tensors_hooks(note, lambda tensor: tensor):
        fresh = replace(batch.afresh(), w=batch.w.clone().requires_grad_())
        fresh.evaluate(fresh.w)
    return sum(storages.values())
