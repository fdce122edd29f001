"""A trained network on a data set as a scalar function of one vector: w (P,) to the mean loss.

L(w) = Σ_b u_b L_b(w) / Σ_b u_b over the batches b, with u_b the units (samples, tokens) that batch b holds. Every pass
over the data leaves parameters, buffers, .grad, flags and the random state as they were, bit for bit.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from landscape.batch_norm import POLICIES, as_buffers, inference_flags, moments_recorded
from landscape.checks import one_of, require, vector_like
from landscape.isolation import random_state_kept
from landscape.vectors import Layout, flatten, layout_of

Criterion = Callable[[Any, Any], Tensor]
Forward = Callable[[nn.Module, Any], Any]
Weight = Callable[[Any, Any], "int | Tensor"]
Selection = Sequence[str] | Callable[[str, Tensor], bool]


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
        require(
            isinstance(data, Iterable) and not isinstance(data, Iterator | Tensor | Mapping),
            "data must be (inputs, targets) or an iterable of such pairs that can be read again, "
            f"got {type(data).__name__}; pass a DataLoader or a list",
        )
        one_of("batch_norm", batch_norm, POLICIES)
        self.model = model
        self.criterion = criterion
        self.data = [data] if _is_one_pair(data) else data
        self.forward = forward or _call
        self.weight = weight or _count
        self.batch_norm = batch_norm
        self.layout: Layout = layout_of(model, _selected(model, parameters))
        self._program = _Program(model, self.forward, criterion)

    @property
    def size(self) -> int:
        """P, the length of w."""
        return self.layout.size

    def vector(self) -> Tensor:
        """A copy of the model's own weights, (P,)."""
        own = dict(self.model.named_parameters())
        return flatten([own[name] for name in self.layout.names])

    def with_data(self, data: Iterable[Any]) -> "Problem":
        """The same network, criterion and parameters on other data."""
        return Problem(self.model, self.criterion, data, **self._settings(list(self.layout.names)))

    def restricted_to(self, names: Sequence[str]) -> "Problem":
        """The same function of fewer parameters; the others stay at the model's own weights."""
        return Problem(self.model, self.criterion, self.data, **self._settings(names))

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

        joined = self.mean(both, w)
        return joined[-1], joined[:-1].clone()

    def outputs(self, w: Tensor | None = None) -> Tensor:
        """The network's outputs on all the data at w, joined along axis 0. Raises ValueError if they are no tensors."""
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

    def mean(
        self,
        term: Callable[["Batch"], Tensor],
        w: Tensor | None = None,
        *,
        second_order: bool = False,
        buffers: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Σ_b u_b term(b) / Σ_b u_b in one pass over the data, summed in float64: what every number here is made of.

        Args:
            term: a function of a `Batch`; its tensor has the same shape for all batches.
            w: (P,), default the model's own weights.
            second_order: run attention by the MATH kernel, the only one that can be differentiated twice.
            buffers: what `statistics(w)` gave, to spare its pass over the data.
        Raises:
            ValueError: if the data is empty, a batch is no (inputs, targets), or the criterion fails.
        """
        w = self._own_or_checked(w)
        buffers = self.statistics(w) if buffers is None else buffers
        total, units = torch.zeros((), dtype=torch.float64, device=w.device), 0.0
        with self._pass(second_order):
            for batch in self._batches(w, buffers):
                total = total + batch.units * term(batch).detach().double()
                units += batch.units
        require(
            units > 0,
            "data must hold at least one batch of positive weight, got none; a generator can be read only once",
        )
        return (total / units).to(w.dtype)

    def statistics(self, w: Tensor) -> dict[str, Tensor]:
        """The batch-norm buffers that replace the model's own at w: none, unless the policy is "recompute"."""
        if self.batch_norm != "recompute":
            return {}
        with torch.no_grad(), moments_recorded(self.model) as moments, self._pass(batch_statistics=True):
            for batch in self._batches(w, {}):
                batch.evaluate(w)
        return as_buffers(self.model, moments)

    @contextmanager
    def _pass(self, second_order: bool = False, batch_statistics: bool | None = None) -> Iterator[None]:
        """Everything a pass over the data changes and puts back."""
        if batch_statistics is None:
            batch_statistics = self.batch_norm == "batch"
        generator = getattr(self.data, "generator", None)
        fast_path = torch.backends.mha.get_fastpath_enabled()
        with ExitStack() as stack:
            stack.enter_context(random_state_kept(*([generator] if isinstance(generator, torch.Generator) else [])))
            stack.enter_context(inference_flags(self.model, batch_statistics=batch_statistics))
            stack.callback(torch.backends.mha.set_fastpath_enabled, fast_path)
            torch.backends.mha.set_fastpath_enabled(False)
            if second_order:
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            yield

    def _batches(self, w: Tensor, buffers: Mapping[str, Tensor]) -> Iterator["Batch"]:
        state = {name: p.detach() for name, p in self.model.named_parameters()}
        state |= {name: b.detach().clone() for name, b in self.model.named_buffers()} | dict(buffers)
        for index, item in enumerate(self.data):
            pair = isinstance(item, Sequence) and len(item) == 2
            require(
                pair,
                f"batch {index}: expected (inputs, targets), got {_shapes(item)}; wrap the data set in a DataLoader",
            )
            inputs, targets = (_to_device(part, w.device) for part in item)
            units = float(self.weight(inputs, targets))
            require(units >= 0, f"batch {index}: weight must be at least 0, got {units}")
            if units > 0:
                yield Batch(self, index, inputs, targets, units, w.detach().clone(), state)

    def _own_or_checked(self, w: Tensor | None) -> Tensor:
        own = self.vector()
        if w is None:
            return own
        vector_like("w", w, own)
        return w.detach()

    def _settings(self, names: Sequence[str]) -> dict[str, Any]:
        return {"forward": self.forward, "weight": self.weight, "parameters": names, "batch_norm": self.batch_norm}


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch of a pass over the data, as a differentiable function of w."""

    problem: Problem
    index: int
    inputs: Any
    targets: Any
    units: float
    w: Tensor  # (P,), where the pass is; a private copy
    state: Mapping[str, Tensor]  # the model's other parameters and its buffers

    def evaluate(self, w: Tensor) -> tuple[Tensor, Any]:
        """Mean loss over the batch, (), and the outputs, at w. A NaN stays NaN."""
        layout, program = self.problem.layout, self.problem._program
        state = {f"model.{name}": value for name, value in self.state.items()}
        for name, piece in zip(layout.names, layout.unflatten(w), strict=True):
            state[f"model.{name}"] = piece.to(state[f"model.{name}"].dtype)
        loss, outputs = torch.func.functional_call(program, state, (self.inputs, self.targets, self.index))
        return loss, outputs

    def loss(self, w: Tensor) -> Tensor:
        """Mean loss over the batch at w, (). Raises ValueError if it is NaN or infinite."""
        loss, _ = self.evaluate(w)
        require(
            bool(loss.isfinite()),
            f"batch {self.index}: the loss is {loss.item()}; check the weights, inputs and targets for NaN",
        )
        return loss


class _Program(nn.Module):
    """forward and criterion as one module, so that both see the weights that `functional_call` puts in place."""

    def __init__(self, model: nn.Module, forward: Forward, criterion: Criterion) -> None:
        super().__init__()
        self.model, self.outputs, self.criterion = model, forward, criterion

    def forward(self, inputs: Any, targets: Any, index: int) -> tuple[Tensor, Any]:
        outputs = self.outputs(self.model, inputs)
        return criterion_loss(self.criterion, outputs, targets, index), outputs


def criterion_loss(criterion: Criterion, outputs: Any, targets: Any, index: int) -> Tensor:
    """The criterion's value, (); what it complains of becomes one ValueError that shows the shapes."""
    met = f"batch {index}: criterion on outputs {_shapes(outputs)} and targets {_shapes(targets)}"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "error", message="Using a target size"
            )  # torch broadcasts (B, 1) with (B,) to (B, B)
            loss = criterion(outputs, targets)
    except (RuntimeError, ValueError, IndexError, TypeError, UserWarning) as error:
        raise ValueError(f"{met} failed: {str(error).splitlines()[0]}; check the targets' shape and dtype") from error
    require(
        isinstance(loss, Tensor) and loss.numel() == 1,
        f"{met} must give a scalar mean, got {_shapes(loss)}; use reduction='mean'",
    )
    return loss.reshape(())


def gradient_of(
    value: Tensor, leaf: Tensor, cotangent: Tensor | None = None, *, keep: bool = False, create: bool = False
) -> Tensor:
    """d value / d leaf, zero where value does not depend on it."""
    if not value.requires_grad:
        return torch.zeros_like(leaf)
    return torch.autograd.grad(
        value,
        leaf,
        cotangent,
        retain_graph=keep or create,
        create_graph=create,
        allow_unused=True,
        materialize_grads=True,
    )[0]


def _call(model: nn.Module, inputs: Any) -> Any:
    return model(inputs)


def _count(_inputs: Any, targets: Any) -> int:
    return len(targets)


def _is_one_pair(data: Any) -> bool:
    """Whether data is (inputs, targets) rather than a sequence of such pairs."""
    return (
        isinstance(data, Sequence)
        and len(data) == 2
        and not all(isinstance(part, Sequence) and len(part) == 2 for part in data)
    )


def _selected(model: nn.Module, parameters: Selection | None) -> list[str]:
    own = dict(model.named_parameters())
    if parameters is None:
        names = [name for name, p in own.items() if p.requires_grad]
    elif callable(parameters):
        names = [name for name, p in own.items() if parameters(name, p)]
    else:
        aliases = dict(model.named_parameters(remove_duplicate=False))
        unknown = [name for name in parameters if name not in aliases]
        require(
            not unknown,
            f"parameters must be names of the model's parameters, got {unknown}; it has {list(own)[:5]} ...",
        )
        wanted = {id(aliases[name]) for name in parameters}
        names = [name for name, p in own.items() if id(p) in wanted]
    require(
        bool(names),
        "the model must have at least one trainable parameter, got none; set requires_grad_() or pass parameters=",
    )
    return names


def _to_device(part: Any, device: torch.device) -> Any:
    if isinstance(part, Tensor):
        return part.to(device, non_blocking=True)
    if isinstance(part, Mapping):
        moved = {key: _to_device(value, device) for key, value in part.items()}
        return part if all(moved[key] is part[key] for key in part) else moved
    if isinstance(part, list | tuple):
        return type(part)(_to_device(value, device) for value in part)
    return part


def _shapes(part: Any) -> str:
    if isinstance(part, Tensor):
        return f"{tuple(part.shape)} {str(part.dtype).removeprefix('torch.')}"
    if isinstance(part, list | tuple):
        return "(" + ", ".join(_shapes(value) for value in part[:3]) + ")"
    return type(part).__name__
