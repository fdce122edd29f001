"""The parameters of a network as one flat vector w (P,), in the order of `model.named_parameters()`.

Lists of tensors live in this file only; everywhere else a network is a vector and a `Layout`.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from math import inf
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)  # _NormBase: batch and instance norm
SYNCHRONOUS = ("cpu",)
Vector = Tensor  # (P,)
Block = Tensor  # (P, K)
if not TYPE_CHECKING and "jaxtyping" in sys.modules:  # the tests, which check annotations, import it first
    from jaxtyping import Float

    Vector, Block = Float[Tensor, "P"], Float[Tensor, "P K"]


@dataclass(frozen=True)
class Layout:
    """Where each parameter lies in the flat vector.

    Attributes:
        names: as in `named_parameters()`; a tied parameter has its first name only.
        shapes: the parameter's shape.
        is_weight: False for biases and for the scales and shifts of normalisation layers.
        is_norm: True for the scales and shifts of normalisation layers; empty where nobody asked.
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    is_weight: tuple[bool, ...]
    is_norm: tuple[bool, ...] = ()

    @property
    def sizes(self) -> list[int]:
        return [shape.numel() for shape in self.shapes]

    @property
    def size(self) -> int:
        return sum(self.sizes)

    def unflatten(self, w: Tensor) -> list[Tensor]:
        """Views of `w` (P,) in the parameters' shapes; differentiable."""
        return [piece.view(shape) for piece, shape in zip(w.split(self.sizes), self.shapes, strict=True)]

    def span(self, name: str) -> slice:
        """The entries of the flat vector that belong to parameter `name`."""
        index = self.names.index(name)
        start = sum(self.sizes[:index])
        return slice(start, start + self.sizes[index])


def layout_of(model: nn.Module, names: Sequence[str] | None = None) -> Layout:
    """Layout of the model's parameters, or of those in `names` (in the model's order)."""
    chosen = {name: p for name, p in model.named_parameters() if names is None or name in names}
    norms = _norm_names(model)
    return Layout(
        names=tuple(chosen),
        shapes=tuple(p.shape for p in chosen.values()),
        is_weight=tuple(name not in norms and "bias" not in name.rpartition(".")[2] for name in chosen),
        is_norm=tuple(name in norms for name in chosen),
    )


def flatten(tensors: Sequence[Tensor]) -> Vector:
    """One contiguous copy (P,) of the tensors' entries, in their common dtype, but at least float32: half the digits
    of a half-precision network are too few for what is computed from its vector."""
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)
    return torch.cat([whole(tensor.detach()).reshape(-1) for tensor in tensors]).to(dtype)


def whole(tensor: Tensor) -> Tensor:
    """A tensor that is sharded over processes (FSDP2) as a whole, on all of them; any other as it is."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def is_sharded(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Whether it is a DTensor, which none is before its module has been imported: half of what torch itself takes."""
    return isinstance(tensor, getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", ()))


def placed_as(piece: Tensor, like: Tensor) -> Tensor:
    """`piece`, which all processes hold, in the shape of `like`, and sharded as it is."""
    piece = piece.view(like.shape)
    if not is_sharded(like):
        return piece
    from torch.distributed.tensor import DTensor, Replicate

    copies = [Replicate()] * like.device_mesh.ndim
    return DTensor.from_local(piece, like.device_mesh, copies, run_check=False).redistribute(placements=like.placements)


def sharded_as(part: Tensor, like: Tensor, more: Sequence[int]) -> Tensor:
    """This process's `part` of a tensor that is sharded as `like` is and has `more` axes behind."""
    if not is_sharded(like):
        return part
    from torch.distributed.tensor import DTensor

    shape = torch.Size((*like.shape, *more))
    stride = torch.empty(shape, device="meta").stride()
    mesh, placements = like.device_mesh, like.placements
    return DTensor.from_local(part, mesh, placements, run_check=False, shape=shape, stride=stride)


def copied(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies in one block of memory a dtype: freed, a large block goes back to the system, many small ones do not."""
    found: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        found.setdefault(tensor.dtype, []).append(tensor.detach())
    blocks = {
        dtype: iter(torch.cat([part.reshape(-1) for part in own]).split([part.numel() for part in own]))
        for dtype, own in found.items()
    }
    return [next(blocks[tensor.dtype]).view(tensor.shape) for tensor in tensors]


def is_synchronous(tensor: Tensor) -> bool:
    """Whether a value can be asked for at no cost; a GPU would have to finish all that it was told before."""
    return tensor.device.type in SYNCHRONOUS


def unit(vector: Vector, out: Tensor | None = None) -> Vector:
    """vector / |vector|; the zero vector stays zero. `out`: to write into, which may be the vector itself."""
    norm = vector.norm()
    if not is_synchronous(vector):
        return torch.div(vector, torch.where(norm > 0, norm, 1.0), out=out)
    if norm > 0:
        return torch.div(vector, norm, out=out)
    return torch.zeros_like(vector) if out is None else out.zero_()


def reject(vector: Vector, direction: Vector) -> Vector:
    """The part of `vector` orthogonal to `direction`; a zero direction takes nothing away."""
    along = unit(direction)
    return vector - along.mul_(vector @ along)


def steepest(g: Vector, p: float = 2, out: Tensor | None = None) -> Vector:
    """The maximiser of <e, g> over |e|_p <= 1, p in [1, inf]; zero for g = 0. For p = 2 it may be written into `out`.

    e = sign(g) |g|^(q-1) / (Σ|g|^q)^(1/p), 1/p + 1/q = 1;  p = inf: sign(g);  p = 1: the largest coordinate alone.
    Source: Foret et al. 2021, arXiv:2010.01412, equation 2.
    """
    if p == 2:
        return unit(g, out)
    largest = g.abs().max()
    if largest == 0:
        return torch.zeros_like(g)
    if p == 1:
        return g.sign() * nn.functional.one_hot(g.abs().argmax(), len(g))
    if p == inf:
        return g.sign()
    s = g.sign() * (g.abs() / largest) ** (1 / (p - 1))  # q − 1 = 1 / (p − 1); scaled first, large q would overflow
    return s / torch.linalg.vector_norm(s, p)


def normal_like(v: Tensor, source: torch.Generator) -> Tensor:
    """Standard normal numbers of v's shape. Drawn in float64 on the generator's device: a seed gives the same ones."""
    return torch.randn(v.shape, generator=source, dtype=torch.float64, device=source.device).to(v)


def filter_norms(w: Vector, layout: Layout) -> Vector:
    """For each entry the norm of the filter it belongs to, (P,).

    A filter is a slice along axis 0 of a tensor with two or more axes (a convolution's output filter, a linear
    row); in tensors with fewer axes each entry stands for itself.
    """
    norms = [
        t.flatten(1).norm(dim=1, keepdim=True).expand_as(t.flatten(1)) if t.ndim > 1 else t.abs()
        for t in layout.unflatten(w)
    ]
    return flatten(norms)


@contextmanager
def displaced(parameters: Sequence[Tensor], e: Vector, w: Vector | None = None) -> Iterator[None]:
    """Move the parameters by `e` for the duration of the block, then back, bit for bit; keeps one copy of them, `w`."""
    w = flatten(parameters) if w is None else w
    try:
        with torch.no_grad():
            for p, piece in zip(parameters, e.split([p.numel() for p in parameters]), strict=True):
                p.add_(placed_as(piece, p))
                del piece  # nor is e kept, unless the caller keeps it
        del e
        torch.clear_autocast_cache()  # else an autocast block around the whole goes on with its casts of w
        yield
    finally:
        assign(parameters, w)
        torch.clear_autocast_cache()


def assign(parameters: Sequence[Tensor], w: Vector) -> None:
    """Write the flat vector `w` (P,) into the parameters."""
    with torch.no_grad():
        for p, piece in zip(parameters, w.split([p.numel() for p in parameters]), strict=True):
            p.copy_(placed_as(piece, p))


def _norm_names(model: nn.Module) -> set[str]:
    """Names of the parameters owned by a normalisation layer."""
    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        if _is_norm(module)
        for name in _own(module)
    }


def _is_norm(module: nn.Module) -> bool:
    """One of torch's normalisation layers, or one of another library: named so, such as LlamaRMSNorm, and all scales.

    The name alone is not enough: NormedLinear is a classifier, and its weight has two axes.
    """
    if isinstance(module, NORMS):
        return True
    named = any(re.search(r"Norm(\d\w*)?$", kind.__name__) for kind in type(module).__mro__)
    return named and all(p.ndim == 1 for p in _own(module).values())


def _own(module: nn.Module) -> Mapping[str, Tensor]:
    return dict(module.named_parameters(recurse=False))
