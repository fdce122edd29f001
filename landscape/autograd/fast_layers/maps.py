"""Bilinear layers y = B(x, W) + b, convolutions and linear ones: B and its adjoints by x, W and b, each by itself."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from landscape.autograd.fast_layers.memory_format import few_and_small, reordered

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
        return torch.ops.aten.convolution(x, weight, bias, *self._settings)

    def by_input(self, g: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        if few_and_small(x) and self.groups == 1 and min(self._outer(weight)) >= 0:
            return self._turned_round(g, x, weight)
        return torch.ops.aten.convolution_backward(g, x, weight, None, *self._settings, (True, False, False))[0]

    def by_weight(self, g: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        return torch.ops.aten.convolution_backward(g, x, weight, None, *self._settings, (False, True, False))[1]

    def by_bias(self, g: Tensor) -> Tensor:
        return g.sum([axis for axis in range(g.ndim) if axis != 1])

    def spread(self, bias: Tensor) -> Tensor:
        return bias.view(-1, *[1] * len(self.stride))

    def _turned_round(self, g: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """`by_input` as a convolution of g, with zeros between its entries where there is a stride, and W turned round.

        oneDNN is slow at the adjoint for few channels: 7 channels of 8² pixels take 0.4 ms so and 0.8 to 1.7 ms there.
        """
        outer = self._outer(weight)
        if max(self.stride) > 1:
            sizes = [n + p - q for n, p, q in zip(x.shape[2:], self.padding, outer, strict=True)]
            apart = g.new_zeros(*g.shape[:2], *sizes)
            places = [slice(0, n * s, s) for n, s in zip(g.shape[2:], self.stride, strict=True)]
            apart[:, :, *places] = g
            g = apart
        turned = weight.flip(*range(2, weight.ndim)).transpose(0, 1)
        flat = [0] * len(outer)
        return torch.ops.aten.convolution(g, turned, None, [1] * len(outer), outer, self.dilation, False, flat, 1)

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
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> tuple[Bilinear | None, Tensor, Tensor, Tensor | None]:
    """A call of torch's as B, x, W and b, with the arguments as torch names them; B is None where torch must do it."""
    axes = CONVOLUTIONS.get(func, 0)
    if weight.ndim != axes + 2 or (axes and input.ndim != axes + 2) or isinstance(padding, str):
        return None, input, weight, bias
    if not axes:
        return Linear(), input, weight, bias
    layer = Convolution(_tuple(stride, axes), _tuple(padding, axes), _tuple(dilation, axes), groups)
    return layer, reordered(input), weight, bias


def _tuple(setting: int | Sequence[int], axes: int) -> tuple[int, ...]:
    given = (setting,) if isinstance(setting, int) else tuple(setting)
    return given * axes if len(given) == 1 else given
