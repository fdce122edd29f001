"""A module's call as a function y(x) of its tensors x, inputs and weights, that keeps these alone.

y, the slopes ∂<g, y>/∂x, and the derivatives of these each run the module once more.
"""

from collections.abc import Callable, MutableMapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from operator import is_
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.overrides import _get_current_function_mode_stack
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from landscape.autograd.differentiable import WrittenOut
from landscape.autograd.precision import Autocast
from landscape.checks import first_line, require
from landscape.problem.closed_calls import (
    INSIDE,
    OTHERWISE,
    WRITES,
    Mark,
    alike,
    made_of,
    marks,
    only_looked_at,
    shared,
    stand_ins,
)
from landscape.problem.placement import missing_derivatives
from landscape.problem.traits import BatchError
from landscape.side_effects import random_state_kept

NO_FORWARD = "activations computed anew (recompute=) have no forward derivative"
_TENSOR = object()


def require_of(fine: bool, name: str, what: str) -> None:
    """Raises ValueError that says what the module does."""
    if not fine:
        raise BatchError(f"recompute: module {name!r} {what}; leave it out of recompute=")


@dataclass(eq=False)
class Call:
    """y(x): a call of a module as a function of its inputs that have derivatives, and of its weights."""

    name: str
    module: nn.Module
    forward: Callable[..., Any]
    slots: Sequence[Sequence[tuple[MutableMapping[str, Any], str]]]  # of each weight
    leaves: Sequence[Any]  # of the arguments
    places: Sequence[int]  # among them, of the inputs that have derivatives
    inputs: TreeSpec
    draws: Callable[[], None]
    autocast: Autocast
    modes: Sequence[WrittenOut]
    found: TreeSpec | None = None  # how what the module gave is built
    marks: Sequence[Mark] = ()  # of the tensors among it
    others: Sequence[Any] = ()  # what it gave besides tensors, in whose places are others

    def first(self, x: Sequence[Tensor]) -> list[Tensor]:
        """The tensors among the outputs, by a graph that keeps nothing."""
        with only_looked_at(self.refuse):
            x = stand_ins(x, self.refuse)
            y = self._run(x)
        require_of(made_of(y, x), self.name, INSIDE)
        self.marks = self._marks(y)
        return y

    def __call__(self, x: Sequence[Tensor]) -> list[Tensor]:
        """The same computed anew at inputs and weights x, by the random numbers of the first time."""
        with ExitStack() as stack:
            stack.enter_context(random_state_kept())
            self.draws()
            stack.enter_context(torch.enable_grad())
            stack.enter_context(self.autocast())
            present = _get_current_function_mode_stack()
            for mode in self.modes:
                if mode not in present:  # a GPU's backward pass runs in another thread
                    stack.enter_context(mode)
            try:
                y = self._run(x)
            except (AttributeError, LookupError, TypeError) as error:  # what it reads is not there any more
                raise self.refuse(f"cannot be computed anew ({first_line(error)})") from error
        require_of(alike(self.marks, self._marks(y)), self.name, OTHERWISE)
        return y

    def refuse(self, what: str) -> NoReturn:
        """Raises ValueError, which says what the module does."""
        require_of(False, self.name, what)
        raise AssertionError

    def _marks(self, y: Sequence[Tensor]) -> list[Mark]:
        return marks(y, self.autocast.dtype if self.autocast.enabled else None)

    def _run(self, x: Sequence[Tensor]) -> list[Tensor]:
        leaves = list(self.leaves)
        for i, tensor in zip(self.places, x, strict=False):
            leaves[i] = tensor
        args, kwargs = tree_unflatten(leaves, self.inputs)
        with ExitStack() as stack:
            for slots, tensor in zip(self.slots, x[len(self.places) :], strict=True):
                for kept, key in slots:
                    stack.callback(kept.__setitem__, key, kept[key])
                    kept[key] = tensor
            found, self.found = tree_flatten(self.forward(*args, **kwargs))
        left, form = tree_flatten((args, kwargs))
        require_of(
            form == self.inputs and all(map(is_, left, leaves)), self.name, "writes into a list or dict it takes"
        )
        self.others = [_TENSOR if isinstance(own, Tensor) else own for own in found]
        return [own for own in found if isinstance(own, Tensor)]

    def outputs(self, values: Sequence[Tensor]) -> Any:
        """The module's outputs with these tensors among them."""
        assert self.found is not None
        rest = iter(values)
        return tree_unflatten([next(rest) if own is _TENSOR else own for own in self.others], self.found)

    def slopes(self, g: Sequence[Tensor | None], x: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor | None]:
        """∂<g, y>/∂x, None where it is not wanted or 0."""
        x = _aliases(x)
        y, g = _used(self(x), g)
        return _derivatives(y, x, g, wanted, create_graph=False)

    def curvature(
        self, v: Sequence[Tensor | None], g: Sequence[Tensor], x: Sequence[Tensor], wanted: Sequence[bool], of: Any
    ) -> list[Tensor | None]:
        """∂<v, ∂<g, y>/∂x>/∂(g, x), None where it is not wanted or 0."""
        again = torch.is_grad_enabled()  # third derivatives are taken
        g, x = _aliases(g), _aliases(x)
        given = iter(g)
        y, cotangents = _used(self(x), [next(given) if own else None for own in of])
        slopes = _derivatives(y, x, cotangents, [own is not None for own in v], create_graph=True)
        ends = [slope.grad_fn for slope in slopes if slope is not None]
        missing = missing_derivatives(*ends, without=[own.grad_fn for own in (*g, *x)])
        require(
            not missing,
            f"the gradient cannot be differentiated, its graph in module {self.name!r} ends in "
            f"{missing[:1]}; use mode='central_differences'",
        )
        roots, along = _used(slopes, v)
        return _derivatives(roots, [*g, *x], along, wanted, create_graph=again)


def _buffers_read(module: nn.Module) -> list[Tensor]:
    """Those that the module may depend on; statistics that batch normalisation writes down it does not read again."""
    owners = [own for own in module.modules() if not isinstance(own, _NormBase)]
    return [buffer for own in owners for buffer in own._buffers.values() if buffer is not None]


def _aliases(tensors: Sequence[Tensor]) -> list[Tensor]:
    """By which derivatives are taken; torch.vmap makes no leaves."""
    with torch.enable_grad():
        return [tensor.view_as(tensor) for tensor in tensors]


def _used(values: Sequence[Tensor | None], cotangents: Sequence[Tensor | None]) -> tuple[list[Tensor], list[Tensor]]:
    """Those that there is a derivative of."""
    pairs = [
        (own, cotangent)
        for own, cotangent in zip(values, cotangents, strict=True)
        if own is not None and cotangent is not None and own.requires_grad
    ]
    return [own for own, _ in pairs], [cotangent for _, cotangent in pairs]


def _derivatives(
    values: Sequence[Tensor],
    tensors: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    wanted: Sequence[bool],
    *,
    create_graph: bool,
) -> list[Tensor | None]:
    """∂<cotangents, values> by each of the tensors that are wanted, None by the others, and where it is 0."""
    asked = [tensor for tensor, own in zip(tensors, wanted, strict=True) if own]
    if not asked or not values:
        return [None] * len(tensors)
    with torch.enable_grad() if create_graph else torch.no_grad():
        found = iter(torch.autograd.grad(values, asked, cotangents, create_graph=create_graph, allow_unused=True))
    return [next(found) if own else None for own in wanted]


class Values(torch.autograd.Function):
    """y of x."""

    @staticmethod
    def forward(ctx: Any, function: Call, *x: Tensor) -> tuple[Tensor, ...]:
        read = [*x, *(own for own in function.leaves if isinstance(own, Tensor)), *_buffers_read(function.module)]
        before = [own._version for own in read]
        y = function.first(x)
        require_of(before == [own._version for own in read], function.name, WRITES)
        fixed = [not own.requires_grad for own in y]
        y = [own.detach() for own in y]
        ctx.function, ctx.count = function, len(x)
        ctx.save_for_backward(*x, *shared(y))  # torch watches over what is saved
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*[own for own, same in zip(y, fixed, strict=True) if same])
        return tuple(y)

    @staticmethod
    def backward(ctx: Any, *g: Tensor | None) -> tuple[Tensor | None, ...]:
        of, given = [own is not None for own in g], [own for own in g if own is not None]
        wanted = ctx.needs_input_grad[1:]
        x = ctx.saved_tensors[: ctx.count]
        return None, *_Slopes.apply(ctx.function, of, wanted, *given, *x)  # type: ignore[no-untyped-call]

    @staticmethod
    def jvp(_ctx: Any, *_tangents: Any) -> Any:
        raise NotImplementedError(NO_FORWARD)


class _Slopes(torch.autograd.Function):
    """∂<g, y>/∂x of the g that are there, and of x."""

    @staticmethod
    def forward(ctx: Any, function: Call, of: Sequence[bool], wanted: Sequence[bool], *tensors: Tensor) -> Any:
        ctx.function, ctx.of = function, of
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        given = iter(tensors[: sum(of)])
        return tuple(function.slopes([next(given) if own else None for own in of], tensors[sum(of) :], wanted))

    @staticmethod
    def backward(ctx: Any, *v: Tensor | None) -> tuple[Tensor | None, ...]:
        g, x = ctx.saved_tensors[: sum(ctx.of)], ctx.saved_tensors[sum(ctx.of) :]
        return None, None, None, *ctx.function.curvature(v, g, x, ctx.needs_input_grad[3:], ctx.of)

    @staticmethod
    def jvp(_ctx: Any, *_tangents: Any) -> Any:
        raise NotImplementedError(NO_FORWARD)
