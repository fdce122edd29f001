"""One batch as a differentiable function of w: forward and criterion run on weights put in place for them."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from linecache import getline
from typing import Any

import torch
from torch import Tensor, nn

from landscape.checks import first_line
from landscape.problem.batches import count, rows, shapes, to_precision
from landscape.problem.placement import Placement, coarsest, graph_nodes
from landscape.problem.random_draws import seed_everything
from landscape.problem.traits import BatchError, require_followed
from landscape.side_effects import global_state
from landscape.vectors import Layout, copied

Criterion = Callable[[Any, Any], Tensor]
Forward = Callable[[nn.Module, Any], Any]

NO_DERIVATIVE = ("does not require grad", "One of the differentiated Tensors")  # torch's words under no_grad
REENTRANT = (
    "reentrant activation checkpointing gives no derivative by chosen weights; "
    "pass use_reentrant=False to torch.utils.checkpoint"
)


@dataclass(frozen=True, eq=False)
class Network:
    """A model, how it is called, what its outputs are held against, and the seed of random numbers inside."""

    model: nn.Module
    forward: Forward
    criterion: Criterion
    draws: int = 0


@dataclass(frozen=True, eq=False)
class Batch:
    """One batch of a pass over the data, as a differentiable function of w; valid as long as the pass lasts."""

    network: Network
    placement: Placement
    layout: Layout
    index: int
    inputs: Any
    targets: Any
    units: float
    w: Tensor  # (P,), where the pass is; nothing writes into it
    dtype: torch.dtype | None = None  # the precision it is evaluated in; None for that of each parameter
    whole: "Batch | None" = None  # the same batch as a function of all parameters, where this one is of some
    places: tuple[int, ...] = ()  # of these among them

    def evaluate(self, w: Tensor) -> tuple[Tensor, Any]:
        """Mean loss over the batch, (), and the outputs, at w. A NaN stays NaN."""
        return self._evaluated(self._pieces(w))

    def evaluate_of(self, pieces: Sequence[Tensor]) -> tuple[Tensor, Any]:
        """As `evaluate`, where each parameter is a tensor of its own."""
        return self._evaluated(pieces)

    def loss(self, w: Tensor) -> Tensor:
        """Mean loss over the batch at w, (). Raises ValueError if it is NaN or infinite."""
        return self._finite(self._evaluated(self._pieces(w))[0])

    def leaves(self) -> list[Tensor]:
        """w as one leaf a parameter, in the parameters' shapes."""
        return [piece.detach().requires_grad_() for piece in self.layout.unflatten(self.w.detach())]

    def loss_of(self, pieces: Sequence[Tensor]) -> Tensor:
        """As `loss`, where each parameter is a tensor of its own, so that derivatives can be taken one by one."""
        return self._finite(self._evaluated(pieces)[0])

    def criterion_of(self, outputs: Any) -> Tensor:
        """The criterion on these outputs in place of the network's, ()."""
        if self.placement.traits.criterion_draws:
            seed_everything(self.network.draws, 2 * self.index + 1)
        seen = self.placement.traits.shapes
        shape = (getattr(outputs, "shape", None), getattr(self.targets, "shape", None))
        loss = criterion_loss(self.network.criterion, outputs, self.targets, self.index, watch=shape not in seen)
        seen.add(shape)
        return loss

    def gradient(self, w: Tensor) -> Tensor:
        """∇L(w) of the batch, (P,)."""
        leaf = w.detach().requires_grad_()
        return gradient_of(self.loss(leaf), leaf)

    def slope(self, outputs: Tensor) -> Tensor:
        """∂L/∂z at these outputs z, shaped like them."""
        leaf = outputs.detach().requires_grad_()
        return gradient_of(self.criterion_of(leaf), leaf)

    def put_in_place(self) -> None:
        """w as it was when a graph was built: a backward pass that computes parts of the forward anew reads it."""
        place = self.placement
        if not place.leaves:
            place.leaves = self._completed(self.leaves())
        place.start()
        place.put(place.leaves, self.dtype)

    @property
    def layers_may_be_fast(self) -> bool:
        """Whether nothing inside is known to be differentiated by its input or its weights: see `bilinear`."""
        return not self.placement.traits.differentiates_inside

    def note_derivative_inside(self) -> None:
        """From now on layers are differentiated as torch does it."""
        self.placement.traits.differentiates_inside = True

    @property
    def scripted(self) -> bool:
        """Whether a part of the network is TorchScript."""
        return any(isinstance(module, torch.jit.ScriptModule) for module in self.network.model.modules())

    @property
    def precision(self) -> torch.dtype:
        """The coarsest one of the chosen parameters as they are evaluated."""
        return self.dtype or self.placement.precision

    def inner_precision(self, loss: Tensor | None = None) -> torch.dtype:
        """The coarsest one on the way from w to the loss, by autocast or casts in forward; a forward pass."""
        if loss is None:
            loss = self.loss(self.w.detach().requires_grad_())
        inner = [meta.dtype for node in graph_nodes(loss.grad_fn) for meta in node._input_metadata]
        return coarsest([self.precision, *inner])

    def rows(self, start: int, stop: int, units: float) -> "Batch":
        """Samples [start, stop) as a batch of their own."""
        part = rows(self.inputs, start, stop), rows(self.targets, start, stop)
        return replace(self, inputs=part[0], targets=part[1], units=units)

    def of_some(self, places: Sequence[int]) -> "Batch":
        """The same batch as a function of the parameters at these places alone; the others stay."""
        layout, pieces = self.layout, self.layout.unflatten(self.w.detach())
        part = Layout(
            tuple(layout.names[i] for i in places),
            tuple(layout.shapes[i] for i in places),
            tuple(layout.is_weight[i] for i in places),
        )
        w = torch.cat([pieces[i].reshape(-1) for i in places])
        return replace(self, layout=part, w=w, whole=self, places=tuple(places))

    def in_precision(self, dtype: torch.dtype) -> "Batch":
        """The same batch evaluated in another precision, w included."""
        inputs, targets = (to_precision(part, dtype) for part in (self.inputs, self.targets))
        return replace(self, inputs=inputs, targets=targets, w=self.w.detach().to(dtype), dtype=dtype)

    def __len__(self) -> int:
        """Samples, the length of the targets."""
        return count(self.targets)

    def _finite(self, loss: Tensor) -> Tensor:
        if not loss.isfinite():
            raise BatchError(
                f"batch {self.index}: the loss is {loss.item()}; check the weights, inputs and targets for NaN"
            )
        return loss

    def _pieces(self, w: Tensor) -> Sequence[Tensor]:
        """w in the parameters' shapes: those in place already, if they are w's."""
        place = self.placement
        if place.vector is not w or place.differentiated != w.requires_grad:
            place.vector, place.differentiated, place.of_vector = w, w.requires_grad, self.layout.unflatten(w)
        return place.of_vector

    def _evaluated(self, pieces: Sequence[Tensor]) -> tuple[Tensor, Any]:
        traits, pieces = self.placement.traits, self._completed(pieces)
        if not traits.known:
            found = self._look(pieces)
            if found is not None and not torch.is_grad_enabled():
                return found
        if traits.needs_derivatives and not torch.is_grad_enabled():
            with torch.enable_grad():
                loss, outputs = self._run([piece.detach().requires_grad_() for piece in pieces])
            return loss.detach(), outputs.detach() if isinstance(outputs, Tensor) else outputs
        if traits.checked_graph or not torch.is_grad_enabled():
            return self._run(pieces)
        return self._first_graph(pieces)

    def _completed(self, pieces: Sequence[Tensor]) -> Sequence[Tensor]:
        """With the parameters that this function leaves alone."""
        if self.whole is None:
            return pieces
        complete = self.whole.layout.unflatten(self.whole.w.detach())
        for place, piece in zip(self.places, pieces, strict=True):
            complete[place] = piece
        return complete

    def _first_graph(self, pieces: Sequence[Tensor]) -> tuple[Tensor, Any]:
        """As `_run`; refused where a part is cut off from the weights without an error."""
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="None of the inputs have requires_grad=True")
            try:
                loss, outputs = self._run(pieces)
            except UserWarning as error:
                raise BatchError(REENTRANT) from error
        if any(node.name() == "CheckpointFunctionBackward" for node in graph_nodes(loss.grad_fn)):
            raise BatchError(REENTRANT)
        self.placement.traits.checked_graph = loss.requires_grad
        return loss, outputs

    def _run(self, pieces: Sequence[Tensor], look: bool = False) -> tuple[Tensor, Any]:
        place, network = self.placement, self.network
        place.start()
        place.put(pieces, self.dtype)
        seed_everything(network.draws, 2 * self.index)
        with place.following() if place.traits.writes_weights else nullcontext():
            outputs = network.forward(network.model, self.inputs)
            before = global_state() if look else None
            loss = self.criterion_of(outputs)
            place.traits.criterion_draws = place.traits.criterion_draws or (look and global_state() != before)
            return loss, outputs

    def _look(self, pieces: Sequence[Tensor]) -> tuple[Tensor, Any] | None:
        """One forward pass on copies, which shows the traits of a model not run before; None if it must be run anew."""
        place, copies, found = self.placement, copied(pieces), None
        traits = place.traits
        traits.writes_weights = False  # also after a look that ended in a refusal
        try:
            with torch.no_grad(), warnings.catch_warnings(), place.watched():
                warnings.filterwarnings("ignore", message="None of the inputs have requires_grad=True")
                found = self._run(copies, look=True)
        except RuntimeError as error:
            if not any(words in str(error) for words in NO_DERIVATIVE):
                raise
            traits.needs_derivatives = True
        place.note_attributes()
        place.put_others_back()
        same = (_equal(copy, piece.detach()) for copy, piece in zip(copies, pieces, strict=True))
        traits.writes_weights = not all(same)
        if traits.writes_weights:
            require_followed(lambda moved: self._run(moved)[0], pieces)
        traits.known = True
        return None if traits.writes_weights else found


def _equal(one: Tensor, two: Tensor) -> bool:
    return torch.equal(one, two) or bool(((one == two) | (one.isnan() & two.isnan())).all())


def criterion_loss(criterion: Criterion, outputs: Any, targets: Any, index: int, *, watch: bool = True) -> Tensor:
    """The criterion's value, (); what it complains of becomes one ValueError that shows the shapes.

    `watch`: the warning with which torch would broadcast (B, 1) with (B,) to (B, B) is an error.
    """

    def met() -> str:
        return f"batch {index}: criterion on outputs {shapes(outputs)} and targets {shapes(targets)}"

    try:
        with warnings.catch_warnings() if watch else nullcontext():
            if watch:
                warnings.filterwarnings("error", message="Using a target size")
            loss = criterion(outputs, targets)
    except (torch.OutOfMemoryError, NotImplementedError):  # memory, or a derivative of some kind: not the criterion
        raise
    except (RuntimeError, ValueError, IndexError, TypeError, UserWarning) as error:
        said = first_line(error)
        if any(words in said for words in NO_DERIVATIVE):
            raise
        hint = "; check the targets' shape and dtype" if _raised_by_torch(error) else ""
        raise ValueError(f"{met()} failed: {said}{hint}") from error
    if not (isinstance(loss, Tensor) and loss.numel() == 1 and loss.is_floating_point()):
        raise ValueError(f"{met()} must give a scalar mean, got {shapes(loss)}; use reduction='mean'")
    return loss.reshape(())


def _raised_by_torch(error: BaseException) -> bool:
    """Whether torch complains of what it was given, and not the criterion's own `raise`."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] == "torch":
        return True
    return not getline(trace.tb_frame.f_code.co_filename, trace.tb_lineno).lstrip().startswith("raise")


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
