"""Passes over the data of a problem: batch after batch at one w, and the model as it was afterwards."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn

from landscape.autograd.allocator import keep_freed_memory
from landscape.autograd.differentiable import differentiable
from landscape.checks import vector_like
from landscape.problem.batch import Batch, Criterion, Forward, Network
from landscape.problem.batch_norm import as_buffers, inference_flags, moments_recorded, packed, unpacked
from landscape.problem.cost import FORWARD, Extent, charge
from landscape.problem.data_reader import DataReader, Item, Weight
from landscape.problem.placement import ONE_AT_A_TIME, Placement, modules_of, put_in_place
from landscape.problem.recomputed import recomputed
from landscape.problem.sharded_passes import mean_in_step
from landscape.problem.shards import Shards, in_step, reshard, sharded_in_place
from landscape.problem.traits import Traits
from landscape.processes import ProcessGroup, Sums, answered, summed, sums_over
from landscape.processes.space import Space
from landscape.side_effects import random_state_kept
from landscape.vectors import Layout, flatten


class Passes:
    """What `Problem` is, and how it goes over its data; `Problem` sets the attributes."""

    model: nn.Module
    criterion: Criterion
    forward: Forward
    batch_norm: str
    recompute: Sequence[str]  # names of modules
    layout: Layout
    reader: DataReader
    process_group: ProcessGroup | None
    shards: Shards | None  # how the parameters of a sharded model are dealt out
    _traits: Traits
    _like: tuple[Any, ...]  # shape, dtype and device of w, once one has been checked

    @property
    def size(self) -> int:
        """P, the length of w; of a sharded model that of all parts together."""
        return self.space.size

    @property
    def space(self) -> Space:
        """The vectors (P,): of a sharded model w, gradients and directions are this process's own entries of them."""
        return Space(self.layout.size) if self.shards is None else self.shards

    @property
    def device(self) -> torch.device:
        """Of the parameters, and of w."""
        with ONE_AT_A_TIME:
            return dict(self.model.named_parameters())[self.layout.names[0]].device

    @property
    def data(self) -> Iterable[Any]:
        """What the batches come from."""
        return self.reader.data

    @property
    def weight(self) -> Weight:
        """(inputs, targets) to the units in the batch."""
        return self.reader.weight

    @property
    def dtype(self) -> torch.dtype | None:
        """The precision asked for; None: the model's own."""
        return self.reader.dtype

    @property
    def extent(self) -> Extent:
        """Units and batches that this process's data holds: counted by the first pass, or by reading the data once."""
        return self.reader.extent(self.device)

    @property
    def parameters(self) -> list[Tensor]:
        """The model's own, those that w holds, in its order."""
        if self.shards is not None:
            return self.shards.parameters  # also while FSDP2 has whole ones in their place
        own = dict(self.model.named_parameters())
        return [own[name] for name in self.layout.names]

    def flat(self, tensors: Sequence[Tensor]) -> Tensor:
        """One tensor a parameter, each as the parameter is, as a vector (P,); of a sharded model the own entries."""
        return flatten(tensors if self.shards is None else self.shards.own_of(tensors))

    def placed(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        """Pieces of a vector, by parameter, as the parameters are: of a sharded model DTensors of the own entries."""
        return list(pieces) if self.shards is None else self.shards.placed(pieces)

    def vector(self) -> Tensor:
        """A copy of the model's own weights, (P,); of a sharded model the own entries of it."""
        with ONE_AT_A_TIME:  # in another thread's pass other weights are in place
            w = self.flat(self.parameters)
        return w if self.dtype is None else w.to(self.dtype)

    @contextmanager
    def batches(
        self,
        w: Tensor | None = None,
        *,
        second_order: bool = False,
        buffers: Mapping[str, Tensor] | None = None,
        kept: Iterable[Item] | None = None,
    ) -> Iterator[Iterator[Batch]]:
        """One pass over the data at w: `with problem.batches(w) as batches: for batch in batches: ...`

        The model holds w until the block ends, through every backward inside, and is then as it was, bit for bit.
        Another thread's pass waits for it; one of the same thread inside the block finds w where it asks for the
        model's own weights.

        Args:
            w: (P,), default the model's own weights.
            second_order: second derivatives are taken, see `differentiable.py`.
            buffers: what replaces the model's own, by name: `statistics(w)`, to spare its pass over the data, or
                `constants()`.
            kept: index, inputs, targets and units of the batches of an earlier pass, in place of reading the data.
        """
        w = self._own_or_checked(w)
        buffers = self.statistics(w) if buffers is None else buffers
        with self.batches_at(w, second_order, buffers, kept) as batches:
            yield batches

    @contextmanager
    def batches_at(
        self,
        w: Tensor,
        second_order: bool,
        buffers: Mapping[str, Tensor],
        kept: Iterable[Item] | None = None,
    ) -> Iterator[Iterator[Batch]]:
        seen = Extent()
        with answered(), self._pass(buffers, second_order) as placement:
            yield self._batches(w.detach(), placement, seen, kept)
        if seen.complete:
            self.reader.note(seen)

    def mean(
        self,
        term: Callable[[Batch], Tensor],
        w: Tensor | None = None,
        *,
        second_order: bool = False,
        buffers: Mapping[str, Tensor] | None = None,
        shape: Sequence[int] = (),
        cost: float = FORWARD,
    ) -> Tensor:
        """Σ_b u_b term(b) / Σ_b u_b in one pass over the data, summed in float64: what every number here is made of.

        Args:
            term: a function of a `Batch`; its tensor has the same shape for all batches.
            w, second_order, buffers: as `batches` has them.
            shape: of the term's tensor; only asked for with several processes, of which one may hold no data.
            cost: of the term in gradients of its batch, see `cost.py`.
        Raises:
            ValueError: if the data is empty, a batch is no (inputs, targets), or the criterion fails.
        """
        w = self._own_or_checked(w)
        buffers = self.statistics(w) if buffers is None else buffers
        if self.shards is not None:
            return mean_in_step(self, term, w, cost)
        with (
            sums_over(self.process_group, shape, w.device) as sums,
            self.batches_at(w, second_order, buffers) as batches,
        ):
            for batch in batches:
                sums.add(term(batch), batch.units)
                charge(batch.units * cost)
        return sums.mean().to(w.dtype)

    def statistics(self, w: Tensor, buffers: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The batch-norm buffers that replace the model's own at w: none, unless the policy is "recompute"."""
        if self.batch_norm != "recompute":
            return {}

        def local() -> Sums:
            units = 0.0
            with (
                torch.no_grad(),
                moments_recorded(self.model) as moments,
                self._pass(buffers or {}, batch_statistics=True) as placement,
            ):
                for batch in self._batches(w, placement, Extent(), None):
                    batch.evaluate(batch.w)
                    units += batch.units
                    charge(batch.units * FORWARD)
            return packed(self.model, moments), units

        shape = packed(self.model, {}).shape
        total, _ = summed(local, shape, w.device, self.process_group)
        return as_buffers(self.model, unpacked(self.model, total.cpu()), self.dtype)

    def constants(self) -> dict[str, Tensor]:
        """Copies of what the loss depends on besides w: the model's other parameters and its buffers, by name."""
        with ONE_AT_A_TIME:
            named = chain(self.model.named_parameters(), self.model.named_buffers())
            return {name: tensor.detach().clone() for name, tensor in named if name not in self.layout.names}

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Passes of this thread inside the block prepare the model once: to many points of a small network they are
        a tenth of the time. Other threads wait meanwhile, and the model's own weights are back at the end alone."""
        with self._pass({}) as placement:
            found, self._traits.opened = self._traits.opened, (self._served(False, None), placement)
            try:
                yield
            finally:
                self._traits.opened = found

    def _served(self, second_order: bool, batch_statistics: bool | None) -> tuple[Any, ...]:
        """What must be alike for a pass to serve another one's work."""
        statistics = self.batch_norm == "batch" if batch_statistics is None else batch_statistics
        return get_ident(), id(self.layout), self.dtype, second_order, statistics

    @contextmanager
    def _pass(
        self, others: Mapping[str, Tensor], second_order: bool = False, batch_statistics: bool | None = None
    ) -> Iterator[Placement]:
        """Everything a pass over the data changes and puts back."""
        opened = self._traits.opened
        alike = opened is not None and opened[0] == self._served(second_order, batch_statistics)
        if opened is not None and alike and not others and not self.reader.generators:
            yield opened[1]
            return
        if batch_statistics is None:
            batch_statistics = self.batch_norm == "batch"
        keep_freed_memory(self.size)
        with ExitStack() as stack:
            stack.enter_context(ONE_AT_A_TIME)
            if self.shards is not None:
                reshard(self.model)
            stack.enter_context(random_state_kept(*self.reader.generators))
            modules = list(modules_of(self.model).values())
            stack.enter_context(inference_flags(modules, batch_statistics=batch_statistics))
            stack.enter_context(differentiable(self.model, modules, twice=second_order))
            stack.enter_context(recomputed(self.model, self.recompute))
            if self.shards is not None:
                yield stack.enter_context(sharded_in_place(self.model, self.shards, self._traits))
            else:
                yield stack.enter_context(put_in_place(self.model, self.layout, others, self.dtype, self._traits))

    def _batches(
        self,
        w: Tensor,
        placement: Placement,
        seen: Extent,
        kept: Iterable[Item] | None,
    ) -> Iterator[Batch]:
        network = Network(self.model, self.forward, self.criterion, self.reader.draws)
        items = self.reader.read(w.device) if kept is None else kept
        for index, inputs, targets, units in items if self.shards is None else in_step(items, self.shards):
            yield Batch(network, placement, self.layout, index, inputs, targets, units, w, self.dtype)
            if units > 0:
                seen.add(units)
        seen.complete = True

    def _own_or_checked(self, w: Tensor | None) -> Tensor:
        if w is None:
            return self.vector()
        if not isinstance(w, Tensor) or (w.shape, w.dtype, w.device) != self._like:
            with ONE_AT_A_TIME:
                named = dict(self.model.named_parameters())
                own_weights = (
                    [named[name].detach().reshape(-1) for name in self.layout.names]
                    if self.shards is None
                    else self.shards.own_of(self.shards.parameters)
                )
                like = flatten([part[:0] for part in own_weights])
            own = like.new_empty((), dtype=self.dtype).expand(self.layout.size)  # as `vector()` is, without its memory
            vector_like("w", w, own)
            self._like = own.shape, own.dtype, own.device
        return w.detach()
