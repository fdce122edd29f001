"""Bilinear layers on the columns of a block: K convolutions are one that is K times as large.

Under vmap a derivative is handed one column in name and all of them in fact. Columns that share W go into the batch,
columns that share x or g into the channels. torch's own rules do so too, but leave results in an order in memory that
makes the next operation slow; here the columns are outermost in memory, and each of them in the layer's own order.
"""

from itertools import repeat

import torch
from torch import Tensor

from landscape.autograd.fast_layers.maps import Bilinear, Convolution
from landscape.autograd.fast_layers.memory_format import reordered, reordered_stack, single_precision_on_cpu

_functorch = torch._C._functorch
WIDE = 16  # channels from which the derivative by W gains nothing from columns side by side


def forward(layer: Bilinear, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """B(x, W) + b, where x may be columns, or W and with it b."""
    level = _level(x, weight)
    if not isinstance(layer, Convolution) or level < 0:
        return reordered(layer.forward(x, weight, bias))
    x, weight = _opened(x, level), _opened(weight, level)
    if x.ndim > len(layer.stride) + 2:
        y = reordered(layer.forward(x.flatten(0, 1), weight, bias)).unflatten(0, x.shape[:2])
    else:
        b = None if bias is None else _merged(_opened(bias, level)[:, None], layer.groups)[0]
        whole = layer.forward(x, _merged(weight[:, None], layer.groups)[0], b)
        y = reordered_stack(_parted(whole, len(weight), layer.groups))
    return _closed(y, level)


def by_input(layer: Bilinear, g: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """∂<g, B(x, W)>/∂x, where g or W may be columns."""
    level = _level(g, weight)
    if not isinstance(layer, Convolution) or level < 0:
        return layer.by_input(g, x, weight)
    g, weight = _opened(g, level), _opened(weight, level)
    if g.ndim > x.ndim:
        shape = g.shape[:2]
        by_x = layer.by_input(g.flatten(0, 1), _room(x, shape.numel(), x.shape[1]), weight).unflatten(0, shape)
    else:
        count = len(weight)
        whole = layer.by_input(g, _room(x, len(x), count * x.shape[1]), _merged(weight))
        by_x = reordered_stack(_parted(whole, count, layer.groups))
    return _closed(by_x, level)


def by_weight(layer: Bilinear, g: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """∂<g, B(x, W)>/∂W, where g or x may be columns."""
    level = _level(g, x)
    if not isinstance(layer, Convolution) or level < 0:
        return layer.by_weight(g, x, weight)
    g, x = _opened(g, level), _opened(x, level)
    rows, inner, *kernel = weight.shape
    if x.ndim > g.ndim and x.shape[2] < WIDE:
        like = weight.new_empty(rows, len(x) * inner, *kernel)
        return _closed(_parted(layer.by_weight(g, _merged_images(x, layer.groups), like), len(x)), level)
    if g.ndim > x.ndim and g.shape[2] < WIDE:
        like = weight.new_empty(len(g) * rows, inner, *kernel)
        whole = layer.by_weight(_merged_images(g, layer.groups), x, like)
        return _closed(_parted(whole[None], len(g), layer.groups)[:, 0], level)
    pairs = zip(g, repeat(x)) if g.ndim > x.ndim else zip(repeat(g), x)
    return _closed(torch.stack([layer.by_weight(a, b, weight) for a, b in pairs]), level)


def masked(g: Tensor, y: Tensor) -> Tensor:
    """g where y > 0, else 0; g may be columns."""
    level = _level(g, y)
    if level < 0:
        return torch.ops.aten.threshold_backward(_laid_out_as(g, y), y, 0)
    g = _laid_out_as(_opened(g, level), y)
    return _closed(torch.ops.aten.threshold_backward(g, y.expand_as(g), 0), level)


def _level(*tensors: Tensor) -> int:
    """Of the innermost vmap that one of them is in; -1 where there is none."""
    return max(_functorch.maybe_get_level(tensor) for tensor in tensors)


def _opened(tensor: Tensor, level: int) -> Tensor:
    """With the columns in front, (K, ...), where it has any."""
    if _functorch.maybe_get_level(tensor) != level:
        return tensor
    return _functorch.get_unwrapped(tensor).movedim(_functorch.maybe_get_bdim(tensor), 0)


def _closed(columns: Tensor, level: int) -> Tensor:
    return _functorch._add_batch_dim(columns, 0, level)


def _merged(columns: Tensor, groups: int = 1) -> Tensor:
    """(K, N, groups · C, ...) to (N, groups · K · C, ...)."""
    return columns.unflatten(2, (groups, -1)).movedim(0, 2).flatten(1, 3)


def _merged_images(columns: Tensor, groups: int) -> Tensor:
    """The same, channels last at once where that is the order."""
    if not single_precision_on_cpu(columns[0]):
        return _merged(columns, groups)
    return columns.unflatten(2, (groups, -1)).permute(1, 4, 5, 2, 0, 3).flatten(3).movedim(3, 1)


def _parted(whole: Tensor, count: int, groups: int = 1) -> Tensor:
    """(N, groups · K · C, ...) to (K, N, groups · C, ...)."""
    return whole.unflatten(1, (groups, count, -1)).movedim(2, 0).flatten(2, 3)


def _room(x: Tensor, batch: int, channels: int) -> Tensor:
    """A tensor without values that has the kind of x and room for more."""
    order = torch.channels_last if x.ndim == 4 else torch.contiguous_format
    return torch.empty(batch, channels, *x.shape[2:], dtype=x.dtype, device=x.device, memory_format=order)


def _laid_out_as(g: Tensor, y: Tensor) -> Tensor:
    """`g`, of y's shape or columns of it, in y's order in memory, where y is dense."""
    extent = 1 + sum((n - 1) * s for n, s in zip(y.shape, y.stride(), strict=True))
    stride = (*([y.numel()] if g.ndim > y.ndim else []), *y.stride())
    if g.stride() == stride or extent != y.numel():
        return g
    return torch.empty_strided(g.shape, stride, dtype=g.dtype, device=g.device).copy_(g)
