"""Hessian products by double backward, H v = ∇(∇L · v): one first-order graph serves all vectors.

Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian".
"""

import torch
from torch import Tensor

from landscape.bilinear import BilinearLayers
from landscape.checks import require
from landscape.curvature.columns import in_columns
from landscape.curvature.kept_graphs import Product
from landscape.program import Batch, gradient_of
from landscape.vectors import Block


def double_backward(batch: Batch, *, chunk: int = 1, once: bool = False) -> Product:
    """The batch's Hessian. With `once` the last column frees the graph on its way, which lowers the peak of memory."""
    leaf = batch.w.detach().requires_grad_()
    with BilinearLayers(leaf):
        loss = batch.loss(leaf)
    gradient = gradient_of(loss, leaf, create=True)  # its graph is meant, not its values: see bilinear/layers.py
    missing = _without_derivative(gradient)
    require(
        not missing,
        f"batch {batch.index}: the gradient cannot be differentiated, its graph ends in {missing}; "
        "use mode='central_differences'",
    )

    def product(block: Block) -> Block:
        if chunk > 1:
            return in_columns(lambda v: gradient_of(gradient, leaf, v, keep=True), block, chunk)
        last = block.shape[1] - 1
        columns = [gradient_of(gradient, leaf, v, keep=i < last or not once) for i, v in enumerate(block.T)]
        return torch.stack(columns, dim=1)

    return product


def _without_derivative(gradient: Tensor) -> str:
    """The node that stands for a missing derivative, if any. torch complains only when it runs the node, and as nothing
    leads from it to w it never does: the Hessian would lack a part without a word."""
    open_nodes, seen = [gradient.grad_fn], set()
    while open_nodes:
        node = open_nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name().rpartition("::")[2] in ("Error", "DelayedError", "NotImplemented"):
            return node.name()
        open_nodes.extend(following for following, _ in node.next_functions)
    return ""
