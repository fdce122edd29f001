"""A trained network on a data set as a scalar function of one vector: w (P,) to the mean loss.

L(w) = Σ_b u_b L_b(w) / Σ_b u_b over the batches b, with u_b the units (samples, tokens) that batch b holds. Every pass
over the data leaves parameters, buffers, .grad, flags and the random state as they were, bit for bit.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from landscape.autograd.allocator import keep_freed_memory
from landscape.autograd.differentiable import differentiable
from landscape.checks import integer_in, not_negative, one_of, require, vector_like
from landscape.problem.batch import Batch, Criterion, Forward, Network, gradient_of
from landscape.problem.batch_norm import POLICIES, as_buffers, inference_flags, moments_recorded, packed, unpacked
from landscape.problem.batches import batches_of, call_model, split_item, target_count, to_device, to_precision
from landscape.problem.cost import FORWARD, GRADIENT, Extent, charge
from landscape.problem.parameters import Selection, selected
from landscape.problem.placement import ONE_AT_A_TIME, Placement, modules_of, put_in_place
from landscape.problem.random_draws import read_apart
from landscape.problem.traits import Traits
from landscape.problem.units import CrossEntropyUnits, default_units, require_mean
from landscape.processes import ProcessGroup, Sums, agree, summed, sums_over
from landscape.side_effects import derivatives_on, random_state_apart
from landscape.storage.results import Estimate
from landscape.storage.results.student import calibrated_error
from landscape.vectors import Layout, flatten, layout_of

Weight = Callable[[Any, Any], "float | Tensor"]
Split = Callable[[Any], tuple[Any, Any]]
Item = tuple[int, Any, Any, float]  # index, inputs, targets and units of a batch


class Problem:
    """Model, criterion and data as a scalar function of the flat vector w of the chosen parameters.

    Args:
        model: any module; it is never changed.
        criterion: (outputs, targets) to the scalar mean loss over the batch's units. One that uses the model's weights
            must read them from the model when it is called.
        data: an iterable of (inputs, targets) that can be read again (DataLoader, list), or one such pair of tensors.
        forward: (model, inputs) to outputs; default model(inputs), see `split`.
        weight: (inputs, targets) to the units in the batch; default len(targets), less what cross entropy ignores, and
            by its class weights where it has some. A batch of weight 0 is skipped.
        parameters: None for all that require grad, a list of names, or a predicate on (name, parameter). The order is
            that of `named_parameters()`, a tied parameter counts once.
        batch_norm: "eval" uses the stored statistics, "batch" each batch's own, "recompute" those of the whole data set
            at w, held fixed while derivatives are taken.
        split: an item of the data to (inputs, targets). Default: pairs as they are; of a mapping "labels" are the
            targets and the rest goes to model(**inputs), whose `logits` are taken; of a longer tuple the last is the
            targets and the others go to model(*inputs).
        dtype: the precision that the function is evaluated in: weights, buffers, floating inputs and targets. Default
            the model's own; a bfloat16 network can be looked at in float32.
        draws: seed of the random numbers that forward and criterion draw, at least 0. A batch has the same ones at
            every evaluation, others than the next batch, so that a Problem is one function; see `over_draws`.
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
        split: Split | None = None,
        dtype: torch.dtype | None = None,
        draws: int | None = None,
    ) -> None:
        require(
            callable(criterion),
            f"criterion must be callable as criterion(outputs, targets), got {type(criterion).__name__}",
        )
        one_of("batch_norm", batch_norm, POLICIES)
        require_mean(criterion)
        require(dtype is None or dtype.is_floating_point, f"dtype must be floating, got {dtype}")
        integer_in("draws", draws or 0, 0)
        self.model = model
        self.criterion = criterion
        self.data = batches_of(data)
        self.forward = forward or call_model
        self.weight = weight or default_units(criterion)
        self.batch_norm = batch_norm
        self.split, self.dtype, self.draws = split or split_item, dtype, draws or 0
        self.layout: Layout = layout_of(model, selected(model, parameters))
        self.process_group: ProcessGroup | None = None
        self._extent = Extent()
        self._traits = Traits()
        self._items: list[Item] | None = None  # the batches, where they are kept
        self._like: tuple[Any, ...] = ()  # shape, dtype and device of w, once one has been checked

    @property
    def size(self) -> int:
        """P, the length of w."""
        return self.layout.size

    @property
    def device(self) -> torch.device:
        """Of the parameters, and of w."""
        with ONE_AT_A_TIME:
            return dict(self.model.named_parameters())[self.layout.names[0]].device

    @property
    def extent(self) -> Extent:
        """Units and batches that this process's data holds: counted by the first pass, or by reading the data once."""
        if self._extent.batches == 0:
            self._extent = Extent()
            for *_, units in self._read(self.device):
                self._extent.add(units)
        return self._extent

    @property
    def counts_samples(self) -> bool:
        """Whether each sample that counts at all is one unit: the default."""
        return self.weight is target_count or (
            isinstance(self.weight, CrossEntropyUnits) and self.weight.class_weight is None
        )

    def sample_units(self, targets: Tensor) -> Tensor:
        """Units of each sample, (B,) float64, where `counts_samples`."""
        if isinstance(self.weight, CrossEntropyUnits) and not targets.is_floating_point():
            return self.weight.of_each(targets)
        return torch.ones(len(targets), dtype=torch.float64, device=targets.device)

    def vector(self) -> Tensor:
        """A copy of the model's own weights, (P,)."""
        with ONE_AT_A_TIME:  # in another thread's pass other weights are in place
            own = dict(self.model.named_parameters())
            w = flatten([own[name] for name in self.layout.names])
        return w if self.dtype is None else w.to(self.dtype)

    def with_data(self, data: Iterable[Any]) -> "Problem":
        """The same network, criterion and parameters on other data."""
        other = copy(self)
        other.data, other._extent, other._items = batches_of(data), Extent(), None
        return other

    def with_batches_kept(self) -> "Problem":
        """The same function with its batches read once, here, and kept on the parameters' device."""
        other = copy(self)
        other._items = list(self._read(self.device))
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
        other.forward, other._traits = forward, Traits()
        return other

    def with_draws(self, draws: int) -> "Problem":
        """The same function with other random numbers inside."""
        other = copy(self)
        other.draws = draws
        return other

    def over_draws(self, n: int, quantity: Callable[["Problem"], Any] | None = None) -> Estimate:
        """Mean of a quantity over n seeds of the random numbers inside the loss, with its standard error.

        Args:
            n: seeds, at least 2: draws, draws + 1, ...
            quantity: of a Problem, a number or an Estimate; default the loss.
        Returns:
            Estimate; value ± 1.96 stderr holds the expectation over the draws in 90-99 % of runs.
        """
        integer_in("n", n, 2)
        found = [(quantity or Problem.loss)(self.with_draws(self.draws + i)) for i in range(n)]
        samples = torch.stack([torch.as_tensor(getattr(each, "value", each)).detach().double().cpu() for each in found])
        return Estimate(value=samples.mean(0), stderr=calibrated_error(samples))

    def loss(self, w: Tensor | None = None) -> Tensor:
        """Mean loss at w, default the model's own weights; a 0-d tensor. Raises ValueError if it is NaN or infinite."""
        with derivatives_on(), torch.no_grad():
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
            pieces.append(outputs.detach())
            return outputs.new_zeros((), dtype=torch.float32)

        with derivatives_on(), torch.no_grad():
            self.mean(collect, w)
        return torch.cat(pieces)

    def pairs(self) -> list[tuple[Any, Any, float]]:
        """All batches as (inputs, targets, units) on the parameters' device, in the order of the data."""
        self._require_alone("pairs")
        with derivatives_on():
            return [item[1:] for item in self._read(self.device)]

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
        with self._batches_at(w, second_order, buffers, kept) as batches:
            yield batches

    @contextmanager
    def _batches_at(
        self,
        w: Tensor,
        second_order: bool,
        buffers: Mapping[str, Tensor],
        kept: Iterable[Item] | None = None,
    ) -> Iterator[Iterator[Batch]]:
        seen = Extent()
        with self._pass(buffers, second_order) as placement:
            yield self._batches(w.detach(), placement, seen, kept)
        if seen.complete:
            self._extent.units, self._extent.batches = seen.units, seen.batches

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
        with (
            sums_over(self.process_group, shape, w.device) as sums,
            self._batches_at(w, second_order, buffers) as batches,
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

    @property
    def generators(self) -> list[torch.Generator]:
        """The generators that reading the data moves on: the loader's and its samplers'."""
        batches = getattr(self.data, "batch_sampler", None)
        sources = [self.data, getattr(self.data, "sampler", None), batches, getattr(batches, "sampler", None)]
        found = [getattr(source, "generator", None) for source in sources]
        return [generator for generator in found if isinstance(generator, torch.Generator)]

    @contextmanager
    def _pass(
        self, others: Mapping[str, Tensor], second_order: bool = False, batch_statistics: bool | None = None
    ) -> Iterator[Placement]:
        """Everything a pass over the data changes and puts back."""
        if batch_statistics is None:
            batch_statistics = self.batch_norm == "batch"
        keep_freed_memory()
        with ExitStack() as stack:
            stack.enter_context(ONE_AT_A_TIME)
            stack.enter_context(random_state_apart(*self.generators))
            modules = list(modules_of(self.model).values())
            stack.enter_context(inference_flags(modules, batch_statistics=batch_statistics))
            stack.enter_context(differentiable(self.model, modules, twice=second_order))
            yield stack.enter_context(put_in_place(self.model, self.layout, others, self.dtype, self._traits))

    def _read(self, device: torch.device) -> Iterator[Item]:
        """Index, inputs, targets and units of each batch of positive weight."""
        for index, item in enumerate(read_apart(self.data, self.draws)):
            try:
                inputs, targets = self.split(item)
            except ValueError as error:
                raise ValueError(f"batch {index}: {error}") from error
            units = float(self.weight(inputs, targets))
            not_negative(f"batch {index}: weight", units)
            if units > 0:
                inputs, targets = (to_precision(to_device(part, device), self.dtype) for part in (inputs, targets))
                yield index, inputs, targets, units

    def _batches(
        self,
        w: Tensor,
        placement: Placement,
        seen: Extent,
        kept: Iterable[Item] | None,
    ) -> Iterator[Batch]:
        network = Network(self.model, self.forward, self.criterion, self.draws)
        if kept is None:
            kept = self._read(w.device) if self._items is None else self._items
        for index, inputs, targets, units in kept:
            yield Batch(network, placement, self.layout, index, inputs, targets, units, w, self.dtype)
            seen.add(units)
        seen.complete = True

    def _require_alone(self, what: str) -> None:
        require(
            self.process_group is None,
            f"{what} are those of one process, got a problem of several; use problem.with_processes(None)",
        )

    def _own_or_checked(self, w: Tensor | None) -> Tensor:
        if w is None:
            return self.vector()
        if not isinstance(w, Tensor) or (w.shape, w.dtype, w.device) != self._like:
            with ONE_AT_A_TIME:
                named = dict(self.model.named_parameters())
                like = flatten([named[name].detach().reshape(-1)[:0] for name in self.layout.names])
            own = like.new_empty((), dtype=self.dtype).expand(self.size)  # as `vector()` is, without its memory
            vector_like("w", w, own)
            self._like = own.shape, own.dtype, own.device
        return w.detach()
