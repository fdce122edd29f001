"""Bilinear layers y = B(x, W) + b, convolutions and linear ones: B and its adjoints by x, W and b, each by itself.

Convolutions put what they are given into the order in memory that they take fastest.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from landscape.autograd.fast_layers.memory_format import channels_last, few_and_small, reordered
from landscape.autograd.fast_layers.transposed import interleaved, interleaving_pays, turned_round

MANY = 48  # channels out, from which a convolution of few in is faster channels last with what comes after it
CONVOLUTIONS: dict[Callable[..., Tensor], int] = {F.conv1d: 1, F.conv2d: 2, F.conv3d: 3}


class Bilinear(ABC):
    """B and its adjoints; g is a cotangent of y."""

    @abstractmethod
    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """B(x, W) + b."""

    @abstractmethod
    def by_input(self, g: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """∂<g, B(x, W)>/∂x; of x only the shape counts."""

    @abstractmethod
    def by_weight(self, g: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """∂<g, B(x, W)>/∂W; of W only the shape counts."""

    @abstractmethod
    def by_bias(self, g: Tensor) -> Tensor:
        """∂<g, b>/∂b."""

    @abstractmethod
    def spread(self, bias: Tensor) -> Tensor:
        """b in a shape that expands to that of y."""


@dataclass(frozen=True)
class Linear(Bilinear):
    """x Wᵀ + b along the last axis."""

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    def by_input(self, g: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        return g @ weight

    def by_weight(self, g: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        return g.reshape(-1, g.shape[-1]).T @ x.reshape(-1, x.shape[-1])

    def by_bias(self, g: Tensor) -> Tensor:
        return g.reshape(-1, g.shape[-1]).sum(0)

    def spread(self, bias: Tensor) -> Tensor:
        return bias


@dataclass(frozen=True)
class Convolution(Bilinear):
    """As torch.nn.functional has it, in one to three dimensions."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x = channels_last(x)[0] if len(weight) >= MANY else reordered(x)
        return torch.ops.aten.convolution(x, weight, bias, *self._settings)

    def by_input(self, g: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        outer = self._outer(weight)
        if self.groups == 1 and few_and_small(x) and max(self.stride) == 1 and min(outer) >= 0:
            return turned_round(g.contiguous(), weight, outer, self.dilation)
        g, x = channels_last(g, x)
        if self.groups == max(self.dilation) == 1 < max(self.stride) and interleaving_pays(x, weight):
            return interleaved(g, x.shape[2:], weight, self.stride, self.padding)
        return torch.ops.aten.convolution_backward(g, x, weight, None, *self._settings, (True, False, False))[0]

    def by_weight(self, g: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        if few_and_small(x) and few_and_small(g):
            g, x = g.contiguous(), x.contiguous()
        else:
            g, x = channels_last(g, x)
        return torch.ops.aten.convolution_backward(g, x, weight, None, *self._settings, (False, True, False))[1]

    def by_bias(self, g: Tensor) -> Tensor:
        return g.sum([axis for axis in range(g.ndim) if axis != 1])

    def spread(self, bias: Tensor) -> Tensor:
        return bias.view(-1, *[1] * len(self.stride))

    def _outer(self, weight: Tensor) -> list[int]:
        """The padding of the adjoint convolution."""
        each = zip(self.dilation, weight.shape[2:], self.padding, strict=True)
        return [dilation * (size - 1) - padding for dilation, size, padding in each]

    @property
    def _settings(self) -> tuple[Any, ...]:
        return self.stride, self.padding, self.dilation, False, [0] * len(self.stride), self.groups


def bilinear(
    func: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *args: Any,
    **settings: Any,
) -> tuple[Bilinear | None, Tensor, Tensor, Tensor | None]:
    """A call of torch's as B, x, W and b, with the arguments as torch names them; B is None where torch must do it."""
    axes = CONVOLUTIONS.get(func, 0)
    if weight.ndim != axes + 2 or (axes and input.ndim != axes + 2):
        return None, input, weight, bias
    if not axes:
        return Linear(), input, weight, bias
    layer = _convolution(axes, *args, **settings)
    return layer, input if layer is None else reordered(input), weight, bias


def _convolution(
    axes: int,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Convolution | None:
    if isinstance(padding, str):
        return None
    return Convolution(_tuple(stride, axes), _tuple(padding, axes), _tuple(dilation, axes), groups)


def _tuple(setting: int | Sequence[int], axes: int) -> tuple[int, ...]:
    given = (setting,) if isinstance(setting, int) else tuple(setting)
    return given * axes if len(given) == 1 else given
