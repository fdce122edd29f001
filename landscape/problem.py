"""A trained network on a data set as a scalar function of one vector: w (P,) to the mean loss.

L(w) = Σ_b u_b L_b(w) / Σ_b u_b over the batches b, with u_b the units (samples, tokens) that batch b holds. Every pass
over the data leaves parameters, buffers, .grad, flags and the random state as they were, bit for bit.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from itertools import chain
from operator import call
from typing import Any

import torch
from torch import Tensor, nn

from landscape.allocator import keep_freed_memory
from landscape.batch_norm import POLICIES, as_buffers, inference_flags, moments_recorded, packed, unpacked
from landscape.batches import batches_of, is_pair, shapes, target_count, to_device
from landscape.checks import not_negative, one_of, require, vector_like
from landscape.cost import FORWARD, GRADIENT, Extent, charge
from landscape.distributed import ProcessGroup, Sums, agree, summed
from landscape.isolation import derivatives_on, random_state_kept
from landscape.program import Batch, Criterion, Forward, Program, gradient_of
from landscape.second_order import differentiable_twice
from landscape.selection import Selection, selected
from landscape.vectors import Layout, flatten, layout_of

Weight = Callable[[Any, Any], "int | Tensor"]


class Problem:
    """Model, criterion and data as a scalar function of the flat vector w of the chosen parameters.

    Args:
        model: any module; it is never changed.
        criterion: (outputs, targets) to the scalar mean loss over the batch's units. One that uses the model's weights
            must read them from the model when it is called.
        data: an iterable of (inputs, targets) that can be read again (DataLoader, list), or one such pair of tensors.
        forward: (model, inputs) to outputs; default model(inputs).
        weight: (inputs, targets) to the units in the batch; default len(targets). A batch of weight 0 is skipped.
        parameters: None for all that require grad, a list of names, or a predicate on (name, parameter). The order is
            that of `named_parameters()`, a tied parameter counts once.
        batch_norm: "eval" uses the stored statistics, "batch" each batch's own, "recompute" those of the whole data set
            at w, held fixed while derivatives are taken.
    Raises:
        ValueError: if no parameter is chosen, a name is unknown, or the data can be read only once.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: Criterion,
        data: Iterable[Any],
        *,
        forward: Forward | None = None,
        weight: Weight | None = None,
        parameters: Selection | None = None,
        batch_norm: str = "eval",
    ) -> None:
        require(
            callable(criterion),
            f"criterion must be callable as criterion(outputs, targets), got {type(criterion).__name__}",
        )
        one_of("batch_norm", batch_norm, POLICIES)
        self.model = model
        self.criterion = criterion
        self.data = batches_of(data)
        self.forward = forward or call  # model(inputs)
        self.weight = weight or target_count
        self.batch_norm = batch_norm
        self.layout: Layout = layout_of(model, selected(model, parameters))
        self.process_group: ProcessGroup | None = None
        self._extent = Extent()
        self._program = Program(model, self.forward, criterion)

    @property
    def size(self) -> int:
        """P, the length of w."""
        return self.layout.size

    @property
    def extent(self) -> Extent:
        """Units and batches that this process's data holds: counted by the first pass, or by reading the data once."""
        if self._extent.batches == 0:
            self.mean(lambda batch: batch.w.new_zeros(()), buffers={}, cost=0.0)
        return self._extent

    @property
    def counts_samples(self) -> bool:
        """Whether a batch weighs as much as it has samples, one unit each: the default."""
        return self.weight is target_count

    def vector(self) -> Tensor:
        """A copy of the model's own weights, (P,)."""
        own = dict(self.model.named_parameters())
        return flatten([own[name] for name in self.layout.names])

    def with_data(self, data: Iterable[Any]) -> "Problem":
        """The same network, criterion and parameters on other data."""
        other = copy(self)
        other.data, other._extent = batches_of(data), Extent()
        return other

    def with_processes(self, process_group: ProcessGroup | None) -> "Problem":
        """The same function where `data` is this process's shard of the whole, such as `shard(dataset, group)`.

        From then on every pass over the data ends in one all-reduce, so all processes must make the same calls with the
        same arguments and generators of the same seed; all get the same results. Units are counted, not processes.

        Args:
            process_group: such as torch.distributed.group.WORLD; None for this process and its data alone.
        Raises:
            ValueError: if the processes' weights differ.
        """
        other = copy(self)
        other.process_group, other._extent = process_group, Extent()
        if process_group is not None:
            w = self.vector()
            same = agree(torch.stack([w.sum(), w.norm()]), process_group)
            require(same, "the processes' weights must be equal, got different ones; load the same checkpoint on each")
        return other

    def with_batch_norm(self, policy: str) -> "Problem":
        """The same function under another batch-norm policy."""
        one_of("batch_norm", policy, POLICIES)
        other = copy(self)
        other.batch_norm = policy
        return other

    def restricted_to(self, names: Sequence[str]) -> "Problem":
        """The same function of fewer parameters; the others stay at the model's own weights."""
        other = copy(self)
        other.layout = layout_of(self.model, selected(self.model, names))
        return other

    def with_forward(self, forward: Forward) -> "Problem":
        """The same weights and data seen through another (model, inputs) to outputs."""
        other = copy(self)
        other.forward, other._program = forward, Program(self.model, forward, self.criterion)
        return other

    def loss(self, w: Tensor | None = None) -> Tensor:
        """Mean loss at w, default the model's own weights; a 0-d tensor. Raises ValueError if it is NaN or infinite."""
        with torch.no_grad():
            return self.mean(lambda batch: batch.loss(batch.w), w)

    def gradient(self, w: Tensor | None = None) -> Tensor:
        """Gradient of the mean loss at w, (P,). Raises ValueError if the loss is NaN or infinite."""
        return self.loss_and_gradient(w)[1]

    def loss_and_gradient(self, w: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Loss () and gradient (P,) from one pass over the data. Raises ValueError if the loss is NaN or infinite."""

        def both(batch: Batch) -> Tensor:
            leaf = batch.w.requires_grad_()
            loss = batch.loss(leaf)
            return torch.cat([gradient_of(loss, leaf), loss.detach().reshape(1).to(leaf)])

        with derivatives_on():
            joined = self.mean(both, w, shape=(self.size + 1,), cost=GRADIENT)
        return joined[-1], joined[:-1].clone()

    def outputs(self, w: Tensor | None = None) -> Tensor:
        """The network's outputs on all the data at w, joined along axis 0. Raises ValueError if they are no tensors."""
        self._require_alone("outputs")
        pieces: list[Tensor] = []

        def collect(batch: Batch) -> Tensor:
            outputs = batch.evaluate(batch.w)[1]
            require(
                isinstance(outputs, Tensor), f"outputs must be one tensor, got {type(outputs).__name__}; pass forward="
            )
            pieces.append(outputs)
            return outputs.new_zeros(())

        with torch.no_grad():
            self.mean(collect, w)
        return torch.cat(pieces)

    def pairs(self) -> list[tuple[Any, Any, float]]:
        """All batches as (inputs, targets, units) on the parameters' device, in the order of the data."""
        self._require_alone("pairs")
        found: list[tuple[Any, Any, float]] = []

        def collect(batch: Batch) -> Tensor:
            found.append((batch.inputs, batch.targets, batch.units))
            return batch.w.new_zeros(())

        self.mean(collect, buffers={}, cost=0.0)
        return found

    def mean(
        self,
        term: Callable[[Batch], Tensor],
        w: Tensor | None = None,
        *,
        second_order: bool = False,
        buffers: dict[str, Tensor] | None = None,
        shape: Sequence[int] = (),
        batches: Iterable[Batch] | None = None,
        cost: float | Callable[[Batch], float] = FORWARD,
    ) -> Tensor:
        """Σ_b u_b term(b) / Σ_b u_b in one pass over the data, summed in float64: what every number here is made of.

        Args:
            term: a function of a `Batch`; its tensor has the same shape for all batches.
            w: (P,), default the model's own weights.
            second_order: the term takes second derivatives, see `second_order.py`.
            buffers: what replaces the model's own, by name: `statistics(w)`, to spare its pass over the data, or
                `constants()`.
            shape: of the term's tensor; only asked for with several processes, of which one may hold no data.
            batches: those of an earlier pass, in place of reading the data.
            cost: of the term in gradients of its batch, see `cost.py`; a function is asked after the term.
        Raises:
            ValueError: if the data is empty, a batch is no (inputs, targets), or the criterion fails.
        """
        w = self._own_or_checked(w)
        buffers = self.statistics(w) if buffers is None else buffers

        def local() -> Sums:
            total, seen = torch.zeros((), dtype=torch.float64, device=w.device), Extent()
            with self._pass(second_order):
                for batch in self._batches(w, buffers) if batches is None else batches:
                    value = term(batch).detach().double()
                    total = value * batch.units if seen.units == 0 else total.add_(value, alpha=batch.units)
                    seen.units, seen.batches = seen.units + batch.units, seen.batches + 1
                    charge(batch.units * (cost(batch) if callable(cost) else cost))
            self._extent.units, self._extent.batches = seen.units, seen.batches
            return total, seen.units

        total, units = summed(local, shape, w.device, self.process_group)
        require(
            units > 0,
            "data must hold at least one batch of positive weight, got none; a generator can be read only once",
        )
        return total.div_(units).to(w.dtype)

    def statistics(self, w: Tensor, buffers: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The batch-norm buffers that replace the model's own at w: none, unless the policy is "recompute"."""
        if self.batch_norm != "recompute":
            return {}

        def local() -> Sums:
            units = 0.0
            with torch.no_grad(), moments_recorded(self.model) as moments, self._pass(batch_statistics=True):
                for batch in self._batches(w, buffers or {}):
                    batch.evaluate(w)
                    units += batch.units
                    charge(batch.units * FORWARD)
            return packed(self.model, moments), units

        shape = packed(self.model, {}).shape
        total, _ = summed(local, shape, w.device, self.process_group)
        return as_buffers(self.model, unpacked(self.model, total.cpu()))

    def constants(self) -> dict[str, Tensor]:
        """Copies of what the loss depends on besides w: the model's other parameters and its buffers, by name."""
        named = chain(self.model.named_parameters(), self.model.named_buffers())
        return {name: tensor.detach().clone() for name, tensor in named if name not in self.layout.names}

    @property
    def generators(self) -> list[torch.Generator]:
        """The generators that reading the data moves on: the loader's and its samplers'."""
        batches = getattr(self.data, "batch_sampler", None)
        sources = [self.data, getattr(self.data, "sampler", None), batches, getattr(batches, "sampler", None)]
        found = [getattr(source, "generator", None) for source in sources]
        return [generator for generator in found if isinstance(generator, torch.Generator)]

    @contextmanager
    def _pass(self, second_order: bool = False, batch_statistics: bool | None = None) -> Iterator[None]:
        """Everything a pass over the data changes and puts back."""
        if batch_statistics is None:
            batch_statistics = self.batch_norm == "batch"
        keep_freed_memory()
        fast_path = torch.backends.mha.get_fastpath_enabled()
        with ExitStack() as stack:
            stack.enter_context(random_state_kept(*self.generators))
            stack.enter_context(inference_flags(self.model, batch_statistics=batch_statistics))
            stack.callback(torch.backends.mha.set_fastpath_enabled, fast_path)
            torch.backends.mha.set_fastpath_enabled(False)
            if second_order:
                stack.enter_context(differentiable_twice(self.model))
            yield

    def _batches(self, w: Tensor, buffers: Mapping[str, Tensor]) -> Iterator[Batch]:
        own = dict(self.model.named_buffers())
        state = {name: p.detach() for name, p in self.model.named_parameters()} | own | dict(buffers)
        for index, item in enumerate(self.data):
            require(
                is_pair(item),
                f"batch {index}: expected (inputs, targets), got {shapes(item)}; wrap the data set in a DataLoader",
            )
            inputs, targets = (to_device(part, w.device) for part in item)
            units = float(self.weight(inputs, targets))
            not_negative(f"batch {index}: weight", units)
            if units > 0:
                fresh = {name: state[name].detach().clone() for name in own}  # a forward pass may write into buffers
                yield Batch(
                    self._program, self.layout, index, inputs, targets, units, w.detach().clone(), state | fresh
                )

    def _require_alone(self, what: str) -> None:
        require(
            self.process_group is None,
            f"{what} are those of one process, got a problem of several; use problem.with_processes(None)",
        )

    def _own_or_checked(self, w: Tensor | None) -> Tensor:
        own = self.vector()
        if w is None:
            return own
        vector_like("w", w, own)
        return w.detach()
