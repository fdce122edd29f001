"""A network's outputs before its last layer: the logits of a large vocabulary are made for a few tokens at a time.

The loss is L = Σ_p s_p ℓ(head(h_p, W), t_p) over pieces p of the tokens, s_p their share of the units. Activation
checkpointing would give its gradient, and keep all logits once that has a graph. So loss and gradient are functions of
(h, W) that keep these alone: the gradient, and its own derivatives, run the head anew, piece by piece.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from landscape.checks import require

HALF = (torch.bfloat16, torch.float16)
NO_FORWARD = "logits in pieces (tokens_at_once=) have no forward derivative"
Counts = Callable[[Tensor], Tensor]  # targets to whether each of them counts


def in_full(logits: Tensor) -> Tensor:
    """Of half precision in float32, as models take them for the loss."""
    return logits.float() if logits.dtype in HALF else logits


class Part(NamedTuple):
    """Some tokens of a batch: places among all of them in a row, targets, and their share of the units."""

    places: slice
    targets: Tensor
    share: float


@dataclass(frozen=True, eq=False)
class HiddenStates:
    """What stands for logits (B, V, T): the states (B, T, D) and the head's weights by its own names for them.

    `chosen` are those of the weights that w holds; what is differentiated by w as one vector is (h, chosen weights).
    """

    words: ClassVar[str] = "hidden states in place of logits (tokens_at_once=)"  # in messages
    states: Tensor
    head: nn.Module
    weights: Mapping[str, Tensor]
    chosen: Sequence[str] = ()

    def logits(self, states: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Of states (n, D), (n, V)."""
        return _logits(self.head, states, weights)

    @property
    def tensors(self) -> list[Tensor]:
        """States and chosen weights."""
        return [self.states, *(self.weights[name] for name in self.chosen)]

    def flat(self) -> Tensor:
        """States and chosen weights as one vector."""
        return torch.cat([tensor.reshape(-1) for tensor in self.tensors])

    def unflatten(self, vector: Tensor) -> list[Tensor]:
        """The vector in their shapes and precisions, the states as (B T, D)."""
        parts = vector.split([tensor.numel() for tensor in self.tensors])
        states, *weights = (part.view(own.shape).to(own) for part, own in zip(parts, self.tensors, strict=True))
        return [states.flatten(0, 1), *weights]

    def at(self, vector: Tensor) -> "HiddenStates":
        """With others in their place, in the vector's precision as all weights are."""
        states, *chosen = vector.split([tensor.numel() for tensor in self.tensors])
        named = zip(self.chosen, chosen, strict=True)
        weights = {name: tensor.to(vector.dtype) for name, tensor in self.weights.items()}
        weights |= {name: tensor.view_as(self.weights[name]) for name, tensor in named}
        return replace(self, states=states.view_as(self.states), weights=weights)


def of_parameters(outputs: Any, model: nn.Module, names: Sequence[str]) -> Any:
    """With those weights chosen that the model has in the place of its parameters by these names."""
    if not isinstance(outputs, HiddenStates):
        return outputs
    known = {id(tensor) for name, tensor in model.named_parameters() if name in set(names)}
    return replace(outputs, chosen=[name for name, tensor in outputs.weights.items() if id(tensor) in known])


def _logits(head: nn.Module, states: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    return in_full(functional_call(head, dict(weights), (states,)))


def as_tensor(outputs: Tensor | HiddenStates) -> Tensor:
    """What is differentiated by w: outputs, or what logits in pieces are made of."""
    return outputs.flat() if isinstance(outputs, HiddenStates) else outputs


@dataclass(frozen=True, eq=False)
class InPieces:
    """A criterion of `HiddenStates` from one of logits (n, V) and targets (n,), a mean over the targets that count.

    Args:
        criterion: of logits.
        tokens: whose logits are there at a time.
        counts: which targets count.
    """

    criterion: Callable[[Tensor, Tensor], Tensor]
    tokens: int
    counts: Counts

    def __call__(self, outputs: Any, targets: Tensor) -> Tensor:
        require(isinstance(outputs, HiddenStates), "logits must be left to tokens_at_once=, got others; leave it out")
        if torch._C._functorch.peek_interpreter_stack() is not None:
            raise NotImplementedError(NO_FORWARD)
        names = tuple(outputs.weights)
        pieces = _Pieces(self.criterion, outputs.head, names, list(self.parts(outputs, targets)))
        loss: Tensor = _Loss.apply(pieces, outputs.states.flatten(0, 1), *outputs.weights.values())  # type: ignore[no-untyped-call]
        return loss

    def parts(self, outputs: HiddenStates, targets: Tensor) -> Iterator[Part]:
        """The batch cut, in the order of its tokens."""
        require(
            outputs.states.shape[:2] == targets.shape,
            f"each target must have a hidden state, got {tuple(targets.shape)} and {tuple(outputs.states.shape)}",
        )
        targets = targets.reshape(-1)
        counted = [float(part.sum()) for part in self.counts(targets).split(self.tokens)]
        total = sum(counted) or float("nan")  # as the mean over no target is
        for i, (own, units) in enumerate(zip(targets.split(self.tokens), counted, strict=True)):
            yield Part(slice(i * self.tokens, i * self.tokens + len(own)), own, units / total)

    def logits(self, outputs: HiddenStates, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits (n, V) and targets (n,) of one piece after another."""
        states = outputs.states.flatten(0, 1)
        for part in self.parts(outputs, targets):
            yield outputs.logits(states[part.places], outputs.weights), part.targets


@dataclass(frozen=True, eq=False)
class _Pieces:
    """f(g, h, W) = g L(h, W) of states h (n, D), and its derivatives."""

    criterion: Callable[[Tensor, Tensor], Tensor]
    head: nn.Module
    names: Sequence[str]
    parts: Sequence[Part]

    def loss(self, states: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """L, ()."""
        one = states.new_ones(())
        with torch.no_grad():
            return torch.stack([self._of(p, one, states[p.places], weights) for p in self.parts if p.share != 0]).sum()

    def derivatives(
        self, wanted: Sequence[bool], g: Tensor, tensors: Sequence[Tensor], v: Sequence[Tensor | None] | None = None
    ) -> list[Tensor | None]:
        """By (g, h, *W), None where not wanted: of f, or with v of <v, ∂f/∂(h, *W)>."""
        with torch.enable_grad():  # aliases: torch.vmap makes no leaves
            g, *weights = (tensor.view_as(tensor) for tensor in (g, *tensors[1:]))
        total: list[Tensor | None] = [None] * len(wanted)
        rows: list[Tensor] = []
        for part in self.parts:
            if part.share == 0:
                rows.append(torch.zeros_like(tensors[0][part.places]))
                continue
            with torch.enable_grad():
                states = tensors[0][part.places]
            along = v and [v[0] if v[0] is None else v[0][part.places], *v[1:]]
            for i, own in self._derivatives_of(part, wanted, [g, states, *weights], along):
                if i == 1:
                    rows.append(own)
                else:
                    total[i] = _added(total[i], own)
        total[1] = torch.cat(rows) if wanted[1] else None
        return total

    def _derivatives_of(
        self, part: Part, wanted: Sequence[bool], leaves: Sequence[Tensor], v: Sequence[Tensor | None] | None
    ) -> list[tuple[int, Tensor]]:
        """Those of one part, by place among the leaves."""
        asked = [i for i, own in enumerate(wanted) if own]
        with torch.enable_grad():
            roots: Sequence[Tensor] = [self._of(part, leaves[0], leaves[1], leaves[2:])]
            if v is not None:
                used = [i for i, own in enumerate(v) if own is not None]
                roots = torch.autograd.grad(roots, [leaves[i + 1] for i in used], create_graph=True)
                v = [v[i] for i in used]
        found = torch.autograd.grad(roots, [leaves[i] for i in asked], v, allow_unused=True, materialize_grads=True)
        return list(zip(asked, found, strict=True))

    def _of(self, part: Part, g: Tensor, states: Tensor, weights: Sequence[Tensor]) -> Tensor:
        """The part's share of f, ()."""
        z = _logits(self.head, states, dict(zip(self.names, weights, strict=True)))
        return g * part.share * self.criterion(z, part.targets)


def _added(total: Tensor | None, part: Tensor) -> Tensor:
    """The sum, in the memory of a total that is nobody else's."""
    return part.clone() if total is None else total.add_(part)


class _Loss(torch.autograd.Function):
    """L of states and weights."""

    @staticmethod
    def forward(ctx: Any, pieces: _Pieces, states: Tensor, *weights: Tensor) -> Tensor:
        ctx.pieces = pieces
        ctx.save_for_backward(states, *weights)
        return pieces.loss(states, weights)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[1:]
        return None, *_Slopes.apply(ctx.pieces, wanted, *cotangents, *ctx.saved_tensors)  # type: ignore[no-untyped-call]

    @staticmethod
    def jvp(_ctx: Any, *_tangents: Any) -> Any:
        raise NotImplementedError(NO_FORWARD)


class _Slopes(torch.autograd.Function):
    """The derivatives of g L by states and weights, None where not wanted."""

    @staticmethod
    def forward(ctx: Any, pieces: _Pieces, wanted: Sequence[bool], g: Tensor, *tensors: Tensor) -> Any:
        ctx.pieces = pieces
        ctx.save_for_backward(g, *tensors)
        ctx.set_materialize_grads(False)
        return tuple(pieces.derivatives([False, *wanted], g, tensors)[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        g, *tensors = ctx.saved_tensors
        return None, None, *ctx.pieces.derivatives(ctx.needs_input_grad[2:], g, tensors, cotangents)
