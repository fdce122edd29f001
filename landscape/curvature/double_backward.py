"""Hessian products by double backward, H v = ∇(∇L · v): one first-order graph serves all vectors.

Every parameter is a leaf of its own: as views of one leaf they would cost a copy of all weights in each backward.
Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian".
"""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from landscape.autograd.fast_layers import BilinearLayers
from landscape.checks import require
from landscape.curvature.methods import Manner, Product, in_columns
from landscape.problem.batch import Batch
from landscape.problem.placement import graph_nodes
from landscape.vectors import Layout, Vector

LARGE = 2**22  # entries from which a vector is put together piece by piece, so that it is not held twice


def double_backward(batch: Batch, manner: Manner, *, fast: bool = True) -> Product:
    """The batch's Hessian; `fast`: layers' second derivatives by `bilinear`, where they may be."""
    leaves = batch.leaves()
    layers = BilinearLayers(leaves) if fast and batch.layers_may_be_fast else None
    with layers or nullcontext():
        loss = batch.loss_of(leaves)
    if layers is not None and layers.differentiated_inside:
        batch.note_derivative_inside()
        return double_backward(batch, manner, fast=False)
    slopes = derivatives(loss, leaves)  # their graph is meant, not their values: see bilinear/layers.py
    require_derivative(slopes, batch.index)
    used, edges = open_edges(slopes)
    del slopes, loss
    layout = batch.layout

    def one(v: Vector, keep: bool = True) -> Vector:
        pieces = layout.unflatten(v)
        if not edges:
            return torch.zeros_like(v)
        along = [pieces[i] for i in used]
        return joined(list(torch.autograd.grad(edges, leaves, along, retain_graph=keep, allow_unused=True)), layout, v)

    return lambda block: in_columns(one, block, manner.chunk, manner.once)


def open_edges(values: Sequence[Tensor | None]) -> tuple[list[int], list[GradientEdge]]:
    """Which of the values have a graph, and where it begins: without the values themselves, which need not be kept."""
    found = {i: get_gradient_edge(v) for i, v in enumerate(values) if v is not None and v.requires_grad}
    return list(found), list(found.values())


def derivatives(value: Tensor, leaves: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """d value / d leaf with a graph, None where value does not depend on it."""
    if not value.requires_grad:
        return [None] * len(leaves)
    found: Sequence[Tensor | None] = torch.autograd.grad(value, leaves, create_graph=True, allow_unused=True)
    return found


def joined(parts: list[Tensor | None], layout: Layout, like: Vector) -> Vector:
    """The parameters' parts as one vector (P,), 0 where there is none; the list is emptied on the way."""
    if layout.size < LARGE:
        sizes = layout.sizes
        return torch.cat([like.new_zeros(n) if p is None else p.reshape(-1) for p, n in zip(parts, sizes, strict=True)])
    whole = torch.empty(layout.size, dtype=like.dtype, device=like.device)
    for i, span in enumerate(whole.split(layout.sizes)):
        part, parts[i] = parts[i], None
        if part is None:
            span.zero_()
        else:
            span.copy_(part.reshape(-1))
    return whole


def require_derivative(values: Sequence[Tensor | None], index: int) -> None:
    """Raises ValueError if the graph of `values` ends in a derivative that does not exist.

    torch complains only when it runs that node, and as nothing leads from it to w it never does: what is computed from
    the graph would lack a part without a word.
    """
    missing = [
        node.name()
        for node in graph_nodes(*(value.grad_fn for value in values if value is not None))
        if node.name().rpartition("::")[2] in ("Error", "DelayedError", "NotImplemented")
    ]
    require(
        not missing,
        f"batch {index}: the gradient cannot be differentiated, its graph ends in {missing[:1]}; "
        "use mode='central_differences'",
    )
