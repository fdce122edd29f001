"""The cheapest second derivatives of convolutions and linear layers, y = B(x, W) + b.

torch differentiates a convolution's backward by transposed and grouped convolutions that run slowly. Any bilinear B
needs no more than B and its adjoints again. With g = ∂L/∂y, and cotangents p, q and r of ∂L/∂x, ∂L/∂W and ∂L/∂b,

    by g:  B(p, W) + B(x, q) + r,    by x:  B(·, q)ᵀ g,    by W:  B(p, ·)ᵀ g.

Nobody asks for the value of ∂L/∂W where W is a part of w: the gradient is linear in it, and only its derivative counts.
It is left out, which saves a third of the first backward, so that a product takes 8/9 of what double backward takes.
What is left out is missed where a derivative is taken inside the network, by its input or its weights. Such a backward
runs while forward does, and shows (`differentiated_inside`); then layers are differentiated as torch does it. So they
are under torch.func, and where activations are computed anew in the backward pass.
Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian", section 4.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from landscape.autograd.fast_layers import stacks
from landscape.autograd.fast_layers.maps import CONVOLUTIONS, Bilinear, bilinear

RECTIFIERS = (F.relu, torch.relu, Tensor.relu)
Three = tuple[Tensor | None, Tensor | None, Tensor | None]
Mask = tuple[bool, bool, bool]


class BilinearLayers(TorchFunctionMode):
    """Within the block convolutions and linear layers are differentiated as above.

    Args:
        leaves: parameters, or what they are views of. The gradient by them has a graph, but no values to rely on.
        by_cotangent: the gradient's graph will be asked for derivatives by g alone, as Jᵀu is for that by u.
    """

    def __init__(self, leaves: Sequence[Tensor], *, by_cotangent: bool = False) -> None:
        super().__init__()
        self.leaves, self.by_cotangent = {id(leaf): leaf for leaf in leaves}, by_cotangent
        self.differentiated_inside = False
        self._active = False

    def __enter__(self) -> "BilinearLayers":
        self._active = True
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        self._active = False
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if func is F.linear or func in CONVOLUTIONS:
            layer, x, weight, bias = bilinear(func, *args, **given)
            if layer is not None and not torch.is_autocast_enabled(x.device.type) and not _watched():
                valued = (True, not self._is_view(weight), bias is not None and not self._is_view(bias))
                return _Applied.apply(x, weight, bias, layer, valued, self)  # type: ignore[no-untyped-call]
        if func in RECTIFIERS and not _watched():
            rectified = _rectified(*args, **given)
            if rectified is not None:
                return _Rectified.apply(rectified)  # type: ignore[no-untyped-call]
        return func(*args, **given)

    def note_backward(self) -> None:
        """A backward while forward is still running: something inside is differentiated by its input or weights."""
        self.differentiated_inside = self.differentiated_inside or self._active

    def _is_view(self, parameter: Tensor) -> bool:
        return id(parameter) in self.leaves or (parameter._is_view() and id(parameter._base) in self.leaves)


def _watched() -> bool:
    """Whether torch.func is at work, or something takes over what is saved for backward, such as checkpointing."""
    functorch = torch._C._functorch.peek_interpreter_stack() is not None
    return functorch or torch._C._autograd._top_saved_tensors_default_hooks(True) is not None


class _Applied(torch.autograd.Function):
    """B(x, W) + b; `valued`: which of its derivatives are asked for their values."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: Bilinear, valued: Mask, mode: BilinearLayers
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.layer, ctx.valued, ctx.mode = layer, valued, mode
        return stacks.forward(layer, x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        (g,), (x, weight), wanted = cotangents, ctx.saved_tensors, ctx.needs_input_grad[:3]
        ctx.mode.note_backward()
        if torch.is_grad_enabled():  # the first backward, whose graph is wanted
            settings = ctx.layer, wanted, ctx.valued, ctx.mode.by_cotangent
            return *_Adjoint.apply(g, x, weight, settings), None, None, None  # type: ignore[no-untyped-call]
        return *_derivatives(ctx.layer, g, x, weight, wanted), None, None, None


class _Adjoint(torch.autograd.Function):
    """The derivatives of <g, B(x, W) + b>; those without value are zeros that take no memory."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, weight: Tensor, settings: tuple[Bilinear, Mask, Mask, bool]) -> Three:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(g, x, weight)
        layer, wanted, valued, ctx.by_cotangent = settings
        ctx.layer = layer
        by_x, by_weight, by_bias = _derivatives(
            layer, g, x, weight, (wanted[0], wanted[1] and valued[1], wanted[2] and valued[2])
        )
        if wanted[1] and not valued[1]:
            by_weight = weight.new_zeros(()).expand_as(weight)
        if wanted[2] and not valued[2]:
            by_bias = weight.new_zeros(()).expand(len(weight))
        return by_x, by_weight, by_bias

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        (g, x, weight), (p, q, r), layer = ctx.saved_tensors, cotangents, ctx.layer
        parts = [
            None if p is None else stacks.forward(layer, p, weight, None),
            None if q is None else stacks.forward(layer, x, q, r),
            None if r is None or q is not None else layer.spread(r).expand_as(g),
        ]
        by_g = reduce(torch.add, (part for part in parts if part is not None))
        if ctx.by_cotangent:
            return by_g, None, None, None
        by_x = stacks.by_input(layer, g, x, q) if ctx.needs_input_grad[1] and q is not None else None
        by_weight = stacks.by_weight(layer, g, p, weight) if ctx.needs_input_grad[2] and p is not None else None
        return by_g, by_x, by_weight, None


class _Rectified(torch.autograd.Function):
    """max(x, 0). torch's own has zeros for a second derivative, which are made and added like any others."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.relu(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
        (g,), (y,) = cotangents, ctx.saved_tensors
        if torch.is_grad_enabled():
            return _Masked.apply(g, y)  # type: ignore[no-untyped-call]
        return stacks.masked(g, y)


class _Masked(torch.autograd.Function):
    """g where y > 0, else 0."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(y)
        return stacks.masked(g, y)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        return stacks.masked(*cotangents, *ctx.saved_tensors), None


def _rectified(input: Tensor, inplace: bool = False) -> Tensor | None:
    """What a call of torch's asks to be rectified; None where torch must do it."""
    return None if inplace or not input.is_floating_point() else input


def _derivatives(layer: Bilinear, g: Tensor, x: Tensor, weight: Tensor, wanted: Mask) -> Three:
    return (
        stacks.by_input(layer, g, x, weight) if wanted[0] else None,
        stacks.by_weight(layer, g, x, weight) if wanted[1] else None,
        layer.by_bias(g) if wanted[2] else None,
    )
