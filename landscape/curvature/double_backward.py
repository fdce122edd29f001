"""Hessian products by double backward, H v = ∇(∇L · v): one first-order graph serves all vectors.

Every parameter is a leaf of its own: as views of one leaf they would cost a copy of all weights in each backward.
Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian".
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from landscape.autograd.allocator import give_back_freed_memory
from landscape.autograd.fast_layers import BilinearLayers
from landscape.checks import require
from landscape.curvature.methods import Manner, Product, in_columns
from landscape.problem.batch import Batch
from landscape.problem.placement import missing_derivatives
from landscape.vectors import Layout, Vector

LARGE = 2**22  # entries from which a vector is put together while backward runs, so that it is not held twice
SPARE = 2**26  # bytes of parts that may be free in the heap, not yet given back


def double_backward(batch: Batch, manner: Manner, *, fast: bool = True) -> Product:
    """The batch's Hessian; `fast`: layers' second derivatives by `bilinear`, where they may be."""
    leaves = batch.leaves()
    layers = BilinearLayers(leaves) if fast and batch.layers_may_be_fast else None
    with layers or nullcontext():
        loss = batch.loss_of(leaves)
    if layers is not None and layers.differentiated_inside:
        batch.note_derivative_inside()
        return double_backward(batch, manner, fast=False)
    backward = partial(torch.autograd.grad, loss, leaves, create_graph=True, allow_unused=True)
    used, edges = open_edges(backward if loss.requires_grad else list, leaves)
    require_derivative([edge.node for edge in edges], batch.index)
    del backward, loss
    layout = batch.layout

    def one(v: Vector, keep: bool = True) -> Vector:
        pieces = layout.unflatten(v)
        if not edges:
            return torch.zeros_like(v)
        along = [pieces[i] for i in used]
        backward = partial(torch.autograd.grad, edges, leaves, along, retain_graph=keep, allow_unused=True)
        return joined(backward, leaves, layout, v)

    return lambda block: in_columns(one, block, manner.chunk, manner.once)


def open_edges(backward: Callable[[], object], leaves: Sequence[Tensor]) -> tuple[list[int], list[GradientEdge]]:
    """Which leaves' derivatives have a graph, and where it begins, from a backward with create_graph.

    The derivatives' values, which nobody asks for, are let go one by one.
    """
    found: dict[int, GradientEdge] = {}

    def without_value(index: int, derivative: Tensor) -> Tensor | None:
        if derivative.requires_grad:
            found[index] = get_gradient_edge(derivative)
        return derivative.new_zeros(()).expand_as(derivative) if derivative.layout == torch.strided else None

    with hooked(leaves, [partial(without_value, index) for index in range(len(leaves))]):
        backward()
    return sorted(found), [found[index] for index in sorted(found)]


@contextmanager
def hooked(leaves: Sequence[Tensor], functions: Sequence[Callable[[Tensor], Tensor | None]]) -> Iterator[None]:
    """What a backward finds for each leaf is replaced by a function of it, and its memory given back."""
    freed = 0

    def replaced(function: Callable[[Tensor], Tensor | None], part: Tensor | None) -> Tensor | None:
        nonlocal freed
        if part is None:  # of a function that says so, such as one of the user's own
            return None
        freed += part.nbytes if part.device.type == "cpu" else 0
        if freed > SPARE:
            give_back_freed_memory()
            freed = part.nbytes  # which is still held
        return function(part)

    pairs = zip(leaves, functions, strict=True)
    hooks = [leaf.register_hook(partial(replaced, function)) for leaf, function in pairs]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def joined(
    backward: Callable[[], Sequence[Tensor | None]], leaves: Sequence[Tensor], layout: Layout, like: Tensor
) -> Vector:
    """What a backward finds by leaf as one vector (P,), 0 where there is nothing.

    Hooks put the parts of a large one into their places as they are found: freed when all are there, those below the
    allocator's threshold would stay in its heap beside the vector, as much memory again.
    """
    if layout.size < LARGE or torch._C._functorch.is_batchedtensor(like):
        pairs = zip(backward(), layout.sizes, strict=True)
        return torch.cat([like.new_zeros(size) if part is None else part.reshape(-1) for part, size in pairs])
    if like.device.type == "cpu":
        give_back_freed_memory()  # holes that the passes before have left
    whole = torch.empty(layout.size, dtype=like.dtype, device=like.device)
    places = layout.unflatten(whole)
    with hooked(leaves, [place.copy_ for place in places]):
        parts = backward()
    for part, place in zip(parts, places, strict=True):
        if part is None:
            place.zero_()
    return whole


def require_derivative(ends: Sequence[Node | None], index: int) -> None:
    """Raises ValueError if a graph, given by its ends, begins in a derivative that does not exist."""
    missing = missing_derivatives(*ends)
    require(
        not missing,
        f"batch {index}: the gradient cannot be differentiated, its graph ends in {missing[:1]}; "
        "use mode='central_differences'",
    )
