"""Hessian of the loss, H = ∇²L(w), by double backward.

H v = ∇(∇L · v); the first-order graph of a batch is built once and serves all vectors of a block.
Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian".
"""

import torch
from torch import Tensor

from landscape.curvature.over_data import OperatorOverData, Product
from landscape.operator import CurvatureOperator
from landscape.problem import Problem
from landscape.program import Batch, gradient_of
from landscape.vectors import Block


def hessian(problem: Problem, w: Tensor | None = None) -> CurvatureOperator:
    """Hessian of the mean loss as an operator (P, P).

    Args:
        problem: the scalar function; its data is read at each product, not here.
        w: where, (P,); default the model's own weights at the time of this call.
    Returns:
        Operator in loss units per parameter unit squared. A product raises ValueError on a NaN or infinite loss.
    """
    return Hessian(problem, w)


class Hessian(OperatorOverData):
    """∇²L(w)."""

    def _linearised(self, batch: Batch) -> Product:
        leaf = batch.w.requires_grad_()
        gradient = gradient_of(batch.loss(leaf), leaf, create=True)

        def product(block: Block) -> Block:
            return torch.stack([gradient_of(gradient, leaf, v, keep=True) for v in block.T], dim=1)

        return product
