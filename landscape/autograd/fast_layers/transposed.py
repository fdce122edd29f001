"""The adjoint of a 2D convolution by its input, run as a convolution of g: x̄[u] = Σ g[i] W[k] over s i + k − p = u.

Without a stride it is one with W turned round. With one, u = s m + a in each axis: every remainder a takes its own
entries of W, W[a + p − s d] at g[m + d]. These are kernels of a few entries, run as one convolution with an output
channel for each remainder, and what comes out is interleaved. Part of them is zero: 16 products in place of 9 for a
kernel of 3 at stride 2. oneDNN's own adjoint is slow for few channels. One thread, ms: 7 channels of 8² pixels .4 so
and .8 to 1.7 there; 300 images of 16 to 32 channels, 8² to 4², .57 and .9, 8 to 16 .29 and .72, 32 to 64, 16² to 8²,
7.4 and 4.8.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from landscape.autograd.fast_layers.memory_format import SMALL_IMAGE, single_precision_on_cpu

FEW = 2**9  # pairs of channels up to which interleaving pays


def interleaving_pays(x: Tensor, weight: Tensor) -> bool:
    """Whether the adjoint with a stride is faster interleaved than as torch has it."""
    return single_precision_on_cpu(x) and weight.shape[:2].numel() <= FEW and x.shape[2:].numel() <= SMALL_IMAGE


def turned_round(g: Tensor, weight: Tensor, padding: Sequence[int], dilation: Sequence[int]) -> Tensor:
    """x̄ where the stride is 1; `padding`: that of the adjoint, dilation · (size − 1) − p in each axis."""
    turned = weight.flip(*range(2, weight.ndim)).transpose(0, 1)
    one, none = [1] * len(padding), [0] * len(padding)
    return torch.ops.aten.convolution(g, turned, None, one, padding, dilation, False, none, 1)


def interleaved(
    g: Tensor, sizes: Sequence[int], weight: Tensor, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """x̄ (B, C, *sizes), channels last, where the dilation is 1."""
    kernel = weight.transpose(0, 1)  # (C, O, k, k)
    around: list[int] = []
    counts: list[int] = []
    for axis, (size, s, p, k) in enumerate(zip(sizes, stride, padding, weight.shape[2:], strict=True)):
        first, final = -((k - 1 - p) // s), (s - 1 + p) // s  # d of the first and the last entry of the kernels
        count = -(-size // s)
        around = [-first, count - 1 + final - (g.shape[axis + 2] - 1), *around]
        counts.append(count)
        kernel = _by_remainder(kernel, 2 + 2 * axis, s, p, range(first, final + 1))
    (m, n), (a, b), (c, o) = counts, stride, kernel.shape[:2]
    kernel = kernel.permute(2, 4, 0, 1, 3, 5).reshape(a * b * c, o, kernel.shape[3], kernel.shape[5])
    one, none = [1, 1], [0, 0]
    whole = torch.ops.aten.convolution(torch.nn.functional.pad(g, around), kernel, None, one, none, one, False, none, 1)
    apart = whole.permute(0, 2, 3, 1).unflatten(3, (a, b, c)).permute(0, 1, 3, 2, 4, 5)  # (B, m, a, n, b, C)
    return apart.reshape(len(g), m * a, n * b, c)[:, : sizes[0], : sizes[1]].permute(0, 3, 1, 2)


def _by_remainder(kernel: Tensor, axis: int, s: int, p: int, places: range) -> Tensor:
    """Entries k along `axis` as (remainders a, places d), k = a + p − s d, 0 where there is none."""
    size = kernel.shape[axis]
    wanted = [a + p - s * d for a in range(s) for d in places]
    found = torch.tensor([k if 0 <= k < size else size for k in wanted], device=kernel.device)
    edge = [0, 0] * (kernel.ndim - 1 - axis) + [0, 1]
    padded = torch.nn.functional.pad(kernel, edge)
    return padded.index_select(axis, found).unflatten(axis, (s, len(places)))
