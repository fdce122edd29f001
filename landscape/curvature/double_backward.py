"""Hessian products by double backward, H v = ∇(∇L · v): one first-order graph serves all vectors.

Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian".
"""

from contextlib import nullcontext

from torch import Tensor

from landscape.bilinear import BilinearLayers
from landscape.checks import require
from landscape.curvature.methods import Manner, Product, in_columns
from landscape.placement import graph_nodes
from landscape.program import Batch, gradient_of
from landscape.vectors import Block


def double_backward(batch: Batch, manner: Manner, *, fast: bool = True) -> Product:
    """The batch's Hessian; `fast`: layers' second derivatives by `bilinear`, where they may be."""
    leaf = batch.w.detach().clone().requires_grad_()
    layers = BilinearLayers(leaf) if fast and batch.layers_may_be_fast else None
    with layers or nullcontext():
        loss = batch.loss(leaf)
    if layers is not None and layers.differentiated_inside:
        batch.note_derivative_inside()
        return double_backward(batch, manner, fast=False)
    gradient = gradient_of(loss, leaf, create=True)  # its graph is meant, not its values: see bilinear/layers.py
    require_derivative(gradient, batch.index)

    def product(block: Block) -> Block:
        if manner.chunk > 1:
            return in_columns(lambda v: gradient_of(gradient, leaf, v, keep=True), block, manner.chunk)
        last = block.shape[1] - 1
        columns = [gradient_of(gradient, leaf, v, keep=i < last or not manner.once) for i, v in enumerate(block.T)]
        return columns[0][:, None] if last == 0 else _side_by_side(columns)

    return product


def _side_by_side(columns: list[Tensor]) -> Block:
    block = columns[0].new_empty(len(columns[0]), len(columns))
    for i, column in enumerate(columns):
        block[:, i] = column
    return block


def require_derivative(value: Tensor, index: int) -> None:
    """Raises ValueError if the graph of `value` ends in a derivative that does not exist.

    torch complains only when it runs that node, and as nothing leads from it to w it never does: what is computed from
    the graph would lack a part without a word.
    """
    missing = [
        node.name()
        for node in graph_nodes(value.grad_fn)
        if node.name().rpartition("::")[2] in ("Error", "DelayedError", "NotImplemented")
    ]
    require(
        not missing,
        f"batch {index}: the gradient cannot be differentiated, its graph ends in {missing[:1]}; "
        "use mode='central_differences'",
    )
