"""What an operator holds on to between products: batches on the device, and first-order graphs as far as they fit.

A kept graph saves a gradient a product, a kept batch saves reading and moving it.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from landscape.curvature.methods import Product
from landscape.problem.batch import Batch
from landscape.problem.batches import nbytes, storage_bytes
from landscape.problem.placement import graph_nodes

DOUBLE_BACKWARD = 3  # a graph of first and second order in units of what the forward pass saves, measured 2.5-3

Item = tuple[int, Any, Any, float]  # index, inputs, targets and units of a batch


@dataclass(eq=False)
class Held:
    """A batch as the data gave it, and its product once the graph behind it is kept."""

    item: Item
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
    held: dict[int, Held] = field(default_factory=dict)
    complete: bool = False
    too_large: bool = False
    _room: int = 0
    _sizes: dict[int, int] = field(default_factory=dict)  # a batch's bytes to those of its graph

    def items(self) -> Iterator[Item] | None:
        """The batches, if a whole pass is held; else None, and a new pass over the data begins."""
        if self.complete:
            return iter([held.item for held in self.held.values()])
        self.held.clear()
        self._room = self.graph_bytes
        return None

    def of(self, batch: Batch) -> Held:
        """The batch as it is held, if it fits."""
        if batch.index in self.held:
            return self.held[batch.index]
        own = nbytes((batch.inputs, batch.targets))
        spent = sum(nbytes(held.item[1:3]) for held in self.held.values())
        self.too_large = self.too_large or spent + own > self.batch_bytes
        item = batch.index, batch.inputs, batch.targets, batch.units
        if self.too_large:
            self.held.clear()
            return Held(item, keep=False)
        held = Held(item, keep=self._graph_fits(batch, own))
        self.held[batch.index] = held
        return held

    def end(self) -> None:
        """A pass has ended."""
        self.complete = len(self.held) > 0

    def drop_graphs(self) -> bool:
        """Make room. False if no graph was kept."""
        found = self.graph_bytes > 0
        self.graph_bytes = self._room = 0
        for held in self.held.values():
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
        if tensor.layout == torch.strided:
            storages[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        else:
            storages[id(tensor)] = storage_bytes(tensor)
        return tensor.detach()

    leaf = batch.w.detach().requires_grad_()
    try:
        with saved_tensors_hooks(note, lambda tensor: tensor):
            batch.evaluate(leaf)
    except RuntimeError as error:  # torch.func cannot be watched so, but its graph can be read
        if "saved tensor hooks" not in str(error):
            raise
        for node in graph_nodes(batch.evaluate(leaf)[0].grad_fn):
            for name in (name for name in dir(node) if name.startswith("_saved_")):
                with suppress(RuntimeError):  # of torch.func's own tensors, which have no storage
                    if isinstance(saved := getattr(node, name), Tensor):
                        note(saved)
    return sum(storages.values())
