"""Generalised Gauss-Newton matrix G = Jᵀ C J, with J = ∂z/∂w of the outputs z and C = ∂²L/∂z² of the criterion.

Neither J nor C is ever formed: a product holds a few tensors of the outputs' shape, whatever their dimension. Both Jv
and Jᵀu come from one graph of the outputs: Jᵀu is linear in u, so its derivative with respect to u is J.
Source: Schraudolph 2002, "Fast curvature matrix-vector products for second-order gradient descent"; Martens 2020.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from landscape.bilinear import BilinearLayers
from landscape.checks import require
from landscape.cost import GAUSS_NEWTON, GRADIENT
from landscape.curvature.columns import in_columns
from landscape.curvature.over_data import OperatorOverData, Product
from landscape.operator import CurvatureOperator
from landscape.problem import Problem
from landscape.program import Batch, criterion_loss, gradient_of
from landscape.vectors import Vector

OutputProduct = Callable[[Tensor], Tensor]


def ggn(problem: Problem, w: Tensor | None = None, **settings: Any) -> CurvatureOperator:
    """Gauss-Newton matrix of the mean loss as an operator (P, P); any criterion twice differentiable in the outputs.

    Args:
        problem: the scalar function; its data is read at each product, not here. The outputs must be one tensor.
        w: where, (P,); default the model's own weights at the time of this call.
        settings: memory, chunk, micro_batch, tf32 as `hessian` has them.
    Returns:
        Operator in loss units per parameter unit squared; positive semi-definite if the criterion is convex in z.
    """
    return GaussNewton(problem, w, **settings)


class GaussNewton(OperatorOverData):
    """Jᵀ C J; subclasses choose another C."""

    def _output_curvature(self, batch: Batch, outputs: Tensor) -> OutputProduct:
        """C of one batch as a function on tensors shaped like `outputs`."""
        z = outputs.detach().requires_grad_()
        slope = gradient_of(criterion_loss(self.problem.criterion, z, batch.targets, batch.index), z, create=True)
        return lambda u: gradient_of(slope, z, u, keep=True)

    def _cost(self, columns: int, fresh: bool) -> float:
        return GRADIENT * fresh + GAUSS_NEWTON * columns

    def _linearised(self, batch: Batch) -> Product:
        leaf = batch.w.detach().requires_grad_()
        with BilinearLayers(leaf, by_cotangent=True):
            loss, z = batch.evaluate(leaf)
        require(
            isinstance(z, Tensor), f"outputs must be one tensor, got {type(z).__name__}; pass forward= that picks it"
        )
        require(
            bool(loss.isfinite()),
            f"batch {batch.index}: the loss is {loss.item()}; check the weights, inputs and targets",
        )
        curvature = self._output_curvature(batch, z)
        u = torch.zeros_like(z).requires_grad_()
        pulled_back = gradient_of(z, leaf, u, create=True)  # Jᵀu, (P,)

        def one(v: Vector) -> Vector:
            return gradient_of(z, leaf, curvature(gradient_of(pulled_back, u, v, keep=True)), keep=True)

        return lambda block: in_columns(one, block, self.chunk)
