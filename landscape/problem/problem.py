"""A trained network on a data set as a scalar function of one vector: w (P,) to the mean loss.

L(w) = Σ_b u_b L_b(w) / Σ_b u_b over the batches b, with u_b the units (samples, tokens) that batch b holds. Every pass
over the data leaves parameters, buffers, .grad, flags and the random state as they were, bit for bit.
"""

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from landscape.checks import integer_in, one_of, require
from landscape.problem import sharded_passes
from landscape.problem.batch import Batch, Criterion, Forward, gradient_of
from landscape.problem.batch_norm import POLICIES
from landscape.problem.batches import shapes
from landscape.problem.cost import GRADIENT
from landscape.problem.data_reader import DataReader, Weight
from landscape.problem.parameters import Selection, selected
from landscape.problem.passes import Passes
from landscape.problem.recomputed import Selection as Modules
from landscape.problem.recomputed import modules_chosen
from landscape.problem.shards import AS_IT_IS, finite_loss, reshard, shards_of
from landscape.problem.split import Split, batches_of, call_model, split_item
from landscape.problem.traits import Traits
from landscape.problem.units import default_units, require_mean
from landscape.processes import ProcessGroup, agree
from landscape.side_effects import derivatives_on
from landscape.storage.results import Estimate
from landscape.storage.results.shown import Shown
from landscape.storage.results.student import calibrated_error
from landscape.vectors import layout_of


class Problem(Shown, Passes):
    """Model, criterion and data as a scalar function of the flat vector w of the chosen parameters.

    Args:
        model: any module; it is never changed.
        criterion: (outputs, targets) to the scalar mean loss over the batch's units. One that uses the model's weights
            must read them from the model when it is called.
        data: an iterable of batches that can be read again (DataLoader, list), or one batch: a pair of tensors, or one
            as `split` says. The first batch of a list is looked at here; nothing else is read.
        forward: (model, inputs) to outputs; default model(inputs), see `split`. Inputs that are a mapping whose names
            are all arguments of the model go to it by name, a tuple one after another where it asks for several.
        weight: (inputs, targets) to the units in the batch; default len(targets), less what cross entropy ignores, and
            by its class weights where it has some. Where samples of one batch have more entries than those of another,
            entries count if the criterion is one of torch's means over them. A batch of weight 0 is skipped.
        parameters: None for all that require grad, a list of names, or a predicate on (name, parameter). The order is
            that of `named_parameters()`, a tied parameter counts once.
        batch_norm: "eval" uses the stored statistics, "batch" each batch's own, "recompute" those of the whole data set
            at w, held fixed while derivatives are taken.
        split: an item of the data to (inputs, targets). Default: pairs as they are; of a mapping "labels" (or "label",
            "label_ids") are the targets and the rest goes to model(**inputs), whose `logits` are taken; of a longer
            tuple the last is the targets and the others go to model(*inputs).
        dtype: the precision that the function is evaluated in: weights, buffers, floating inputs and targets. Default
            the model's own; a bfloat16 network can be looked at in float32.
        draws: seed of the random numbers that forward and criterion draw, at least 0. A batch has the same ones at
            every evaluation, others than the next batch, so that a Problem is one function; see `over_draws`.
        recompute: modules whose activations are computed anew where derivatives are taken, in place of being kept: a
            list of names, or a predicate on (name, module), such as the blocks of a transformer. A product then holds
            the inputs of all of them and the graph of one, and takes 1.3 to 1.8 times as long as without kept graphs.
    Raises:
        ValueError: if no parameter is chosen, a name is unknown, the data can be read only once, or the first batch
            of a list cannot be taken apart.
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
        recompute: Modules | None = None,
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
        self.forward = forward or call_model
        self.batch_norm = batch_norm
        self.reader = DataReader(
            batches_of(data, split), split or split_item, weight or default_units(criterion), dtype, draws or 0
        )
        reshard(model)
        self.recompute = modules_chosen(model, recompute)
        self._choose(selected(model, parameters))
        self._traits = Traits()
        self._like = ()

    def _choose(self, names: Sequence[str]) -> None:
        """w holds these parameters."""
        self.layout, self.shards = layout_of(self.model, names), shards_of(self.model, names)
        self.process_group = None
        if self.shards is not None:
            require(self.batch_norm != "recompute" and self.reader.dtype is None, AS_IT_IS)
            require(not self.recompute, "recompute must be left out for a sharded model; its own checkpointing serves")
            self.layout, self.process_group = self.shards.layout(self.layout), self.shards.group
            self.reader = self._reader_anew()

    def _facts(self) -> dict[str, Any]:
        seen = self.reader.counted  # by an earlier pass: nothing is read for it
        return {
            "": type(self.model).__name__,
            "P": self.size,
            "criterion": getattr(self.criterion, "__name__", type(self.criterion).__name__),
            "data": str(seen) if seen.batches else type(self.reader.data).__name__,
            "batch_norm": self.batch_norm,
            "dtype": str(self.reader.dtype)[6:] if self.reader.dtype else None,
            "device": str(self.device),
        }

    def with_data(self, data: Iterable[Any]) -> "Problem":
        """The same network, criterion and parameters on other data."""
        return self._with(reader=self._reader_anew(data=batches_of(data, self.reader.split)))

    def with_pairs(self, pairs: Sequence[tuple[Any, Any]]) -> "Problem":
        """The same function on batches that are (inputs, targets) already: `split` has taken them apart."""
        return self._with(reader=self._reader_anew(data=pairs, split=split_item))

    def with_batches_kept(self) -> "Problem":
        """The same function with its batches read once, here, and kept on the parameters' device."""
        return self._with(reader=self.reader.in_memory(self.device))

    def with_processes(self, process_group: ProcessGroup | None) -> "Problem":
        """The same function where `data` is this process's shard of the whole, such as `shard(dataset, group)`.

        From then on every pass over the data ends in one all-reduce, so all processes must make the same calls with the
        same arguments and generators of the same seed; all get the same results. Units are counted, not processes.

        Args:
            process_group: such as torch.distributed.group.WORLD; None for this process and its data alone.
        Raises:
            ValueError: if the processes' weights differ.
        """
        if self.shards is not None:
            require(
                process_group is self.shards.group,
                "the processes of a sharded model are those that its parameters lie with; leave with_processes out",
            )
        elif process_group is not None:
            w = self.vector()
            same = agree(torch.stack([w.sum(), w.norm()]), process_group)
            require(same, "the processes' weights must be equal, got different ones; load the same checkpoint on each")
        other = self._with(process_group=process_group)
        return other._with(reader=other._reader_anew())

    def with_batch_norm(self, policy: str) -> "Problem":
        """The same function under another batch-norm policy."""
        one_of("batch_norm", policy, POLICIES)
        require(self.shards is None or policy != "recompute", AS_IT_IS)
        return self._with(batch_norm=policy)

    def restricted_to(self, names: Sequence[str]) -> "Problem":
        """The same function of fewer parameters; the others stay at the model's own weights."""
        other = self._with(_traits=Traits(), _like=())
        reshard(self.model)
        other._choose(selected(self.model, names))
        if self.shards is None:
            other.process_group = self.process_group
        return other

    def with_forward(self, forward: Forward) -> "Problem":
        """The same weights and data seen through another (model, inputs) to outputs."""
        return self._with(forward=forward, _traits=Traits())

    def with_draws(self, draws: int) -> "Problem":
        """The same function with other random numbers inside."""
        return self._with(reader=self._reader_anew(draws=draws))

    def _with(self, **changes: Any) -> "Problem":
        other = copy(self)
        vars(other).update(changes)
        return other

    def _reader_anew(self, **changes: Any) -> DataReader:
        return self.reader.anew(by_entries=self.process_group is not None, **changes)

    def over_draws(self, n: int, quantity: Callable[["Problem"], Any] | None = None) -> Estimate:
        """Mean of a quantity over n seeds of the random numbers inside the loss, with its standard error.

        Args:
            n: seeds, at least 2: draws, draws + 1, ...
            quantity: of a Problem, a number or an Estimate; default the loss.
        Returns:
            Estimate; value ± 1.96 stderr holds the expectation over the draws in 90-99 % of runs.
        """
        integer_in("n", n, 2)
        found = [(quantity or Problem.loss)(self.with_draws(self.reader.draws + i)) for i in range(n)]
        samples = torch.stack([torch.as_tensor(getattr(each, "value", each)).detach().double().cpu() for each in found])
        return Estimate(value=samples.mean(0), stderr=calibrated_error(samples))

    def loss(self, w: Tensor | None = None) -> Tensor:
        """Mean loss at w, default the model's own weights; a 0-d tensor. Raises ValueError if it is NaN or infinite."""
        with derivatives_on(), torch.no_grad():
            if self.shards is None:
                return self.mean(lambda batch: batch.loss(batch.w), w)
            return finite_loss(self.mean(lambda batch: batch.evaluate(batch.w)[0], w))

    def gradient(self, w: Tensor | None = None) -> Tensor:
        """Gradient of the mean loss at w, (P,). Raises ValueError if the loss is NaN or infinite."""
        return self.loss_and_gradient(w)[1]

    def loss_and_gradient(self, w: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Loss () and gradient (P,) from one pass over the data. Raises ValueError if the loss is NaN or infinite."""
        if self.shards is not None:
            with derivatives_on():
                loss, gradient = sharded_passes.loss_and_gradient(self, self.shards, self._own_or_checked(w))
            return finite_loss(loss), gradient

        def both(batch: Batch) -> Tensor:
            leaf = batch.w.requires_grad_()
            loss = batch.loss(leaf)
            return torch.cat([gradient_of(loss, leaf), loss.detach().reshape(1).to(leaf)])

        with derivatives_on():
            joined = self.mean(both, w, shape=(self.size + 1,), cost=GRADIENT)
        return joined[-1], joined[:-1].clone()

    def outputs(self, w: Tensor | None = None) -> Tensor:
        """The network's outputs on all the data at w, joined along axis 0. Raises ValueError if they are no tensors."""
        self.require_alone("outputs")
        pieces: list[Tensor] = []

        def collect(batch: Batch) -> Tensor:
            outputs = batch.evaluate(batch.w)[1]
            require(isinstance(outputs, Tensor), f"outputs must be one tensor, got {shapes(outputs)}; pass forward=")
            pieces.append(outputs.detach())
            return outputs.new_zeros((), dtype=torch.float32)

        with derivatives_on(), torch.no_grad():
            self.mean(collect, w)
        return torch.cat(pieces)

    def batches_with_units(self) -> list[tuple[Any, Any, float]]:
        """All batches as (inputs, targets, units) on the parameters' device, in the order of the data."""
        self.require_alone("batches_with_units")
        with derivatives_on():
            return [item[1:] for item in self.reader.read(self.device)]

    def require_whole(self, what: str) -> "Problem":
        """This problem. Raises ValueError if its model is sharded, so that no process holds whole vectors."""
        require(self.shards is None, f"{what} needs whole vectors, got a sharded model; gather it on one process")
        return self

    def require_alone(self, what: str) -> None:
        """Raises ValueError if the data lie with several processes."""
        how = "use problem.with_processes(None)" if self.shards is None else "gather the sharded model on one of them"
        require(self.process_group is None, f"{what} are those of one process, got a problem of several; {how}")
