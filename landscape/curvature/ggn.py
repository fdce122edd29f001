"""Generalised Gauss-Newton matrix G = Jᵀ C J, with J = ∂z/∂w of the outputs z and C = ∂²L/∂z² of the criterion.

Neither J nor C is ever formed: a product holds a few tensors of the outputs' shape, whatever their dimension. Both Jv
and Jᵀu come from one graph of the outputs: Jᵀu is linear in u, so its derivative with respect to u is J. Where that
derivative is missing or wrong, Jv is a difference of outputs.
Source: Schraudolph 2002, "Fast curvature matrix-vector products for second-order gradient descent"; Martens 2020.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from landscape.autograd.central_difference import central_difference
from landscape.autograd.fast_layers import BilinearLayers
from landscape.curvature.central_differences import Differences, in_full
from landscape.curvature.double_backward import joined, open_edges, require_derivative
from landscape.curvature.methods import Manner, Method, Product, in_columns
from landscape.curvature.output_pieces import in_pieces
from landscape.curvature.over_data import Matrix, OperatorOverData, OperatorSettings
from landscape.curvature.verification import compare_outputs
from landscape.problem import Problem
from landscape.problem.batch import Batch, gradient_of
from landscape.problem.batches import to_precision
from landscape.problem.cost import GAUSS_NEWTON, GRADIENT
from landscape.problem.hidden_states import HiddenStates, as_tensor, of_parameters
from landscape.problem.traits import BatchError
from landscape.vectors import Block, Vector

OutputProduct = Callable[[Tensor], Tensor]
OutputCurvature = Callable[[Batch, Any], OutputProduct]  # C of one batch at its outputs


def ggn(problem: Problem, w: Tensor | None = None, **settings: Any) -> OperatorOverData:
    """Gauss-Newton matrix of the mean loss as an operator (P, P); any criterion twice differentiable in the outputs.

    Args:
        problem: the scalar function; its data is read at each product, not here. The outputs must be one tensor, before
            the criterion.
        w: where, (P,); default the model's own weights at the time of this call.
        settings: memory, chunk, micro_batch, tf32, verify as `hessian` has them, and mode: "auto" | "double_backward"
            (Jv from the graph of Jᵀu) | "central_differences" (Jv from outputs alone, with an error estimate).
    Returns:
        Operator in loss units per parameter unit squared; positive semi-definite if the criterion is convex in z.
    """
    return gauss_newton(problem, "ggn", criterion_curvature, w, exact=True, **settings)


def gauss_newton(
    problem: Problem, name: str, curvature: OutputCurvature, w: Tensor | None, *, exact: bool = False, **settings: Any
) -> OperatorOverData:
    """Jᵀ C J for any C; `exact`: it is the criterion's own second derivative."""
    differences = Differences(_outputs_at)
    methods = [
        Method("double_backward", partial(_by_graph, curvature=curvature), True, GRADIENT, GAUSS_NEWTON),
        Method("double_backward", partial(_by_graph, curvature=curvature, fast=False), True, GRADIENT, GAUSS_NEWTON),
        Method(
            "central_differences",
            partial(
                _by_differences, curvature=curvature_by_differences if exact else curvature, differences=differences
            ),
            False,
            GRADIENT,
            2 * GAUSS_NEWTON,
        ),
    ]
    return OperatorOverData(
        problem,
        Matrix(
            name,
            methods,
            partial(compare_outputs, curvature=curvature_by_differences if exact else curvature, exact=exact),
        ),
        w,
        OperatorSettings(**settings),
    )


def criterion_curvature(batch: Batch, outputs: Tensor | HiddenStates) -> OutputProduct:
    """∂²L/∂z² of the batch's criterion as a function on tensors shaped like `outputs`."""
    if isinstance(outputs, HiddenStates):
        return in_pieces(batch, outputs, criterion_curvature)
    z = outputs.detach().requires_grad_()
    slope = gradient_of(batch.criterion_of(z), z, create=True)
    if not slope.requires_grad and bool((slope == slope.flatten()[0]).all()):
        raise BatchError(
            "the criterion is the mean of the outputs, so that the Gauss-Newton matrix would be 0: the outputs look "
            "like losses already; give the network's outputs by forward= and the loss by criterion"
        )
    try:
        require_derivative([slope.grad_fn], batch.index)
    except ValueError:
        return curvature_by_differences(batch, outputs)
    return lambda u: gradient_of(slope, z, u, keep=True)


def curvature_by_differences(batch: Batch, outputs: Tensor | HiddenStates) -> OutputProduct:
    """∂²L/∂z² from the criterion's gradient alone, in float64: (r(z + tu) − r(z − tu)) / 2t."""
    if isinstance(outputs, HiddenStates):
        return in_pieces(batch, outputs.at(outputs.flat().double()), curvature_by_differences, exactly=False)
    z = outputs.detach().double()
    wide = replace(batch, targets=to_precision(batch.targets, torch.float64))

    def product(u: Tensor) -> Tensor:
        length = u.double().norm().clamp(min=torch.finfo(torch.float64).tiny)
        t = torch.finfo(torch.float64).eps ** (1 / 3) * (1 + z.norm()) / length
        return central_difference(lambda s: wide.slope(z + s * u.double()), t)[0].to(u)

    return product


def _by_graph(batch: Batch, manner: Manner, *, curvature: OutputCurvature, fast: bool = True) -> Product:
    leaves = batch.leaves()
    layers = BilinearLayers(leaves, by_cotangent=True) if fast and batch.layers_may_be_fast else None
    with layers or nullcontext():
        outputs = network_outputs(batch, leaves)
    if layers is not None and layers.differentiated_inside:
        batch.note_derivative_inside()
        return _by_graph(batch, manner, curvature=curvature, fast=False)
    z, C = as_tensor(outputs), curvature(batch, outputs)
    u = torch.zeros_like(z).requires_grad_()
    used, edges = open_edges(partial(_pulled_back, z, leaves, u, create=True), leaves)  # Jᵀu, by parameter
    require_derivative([edge.node for edge in edges], batch.index)
    layout = batch.layout

    def one(v: Vector) -> Vector:
        if not edges:
            return torch.zeros_like(v)
        pieces = layout.unflatten(v)
        (along,) = torch.autograd.grad(edges, u, [pieces[i] for i in used], retain_graph=True, materialize_grads=True)
        back = partial(torch.autograd.grad, z, leaves, C(along), retain_graph=True, allow_unused=True)
        return joined(back, leaves, layout, v)

    return lambda block: in_columns(one, block, manner.chunk)


def _by_differences(batch: Batch, manner: Manner, *, curvature: OutputCurvature, differences: Differences) -> Product:
    wide = in_full(batch)

    def product(block: Block) -> Block:
        along = [differences(wide, v.to(wide.w)) for v in block.T]  # first, for they move the weights
        leaves = batch.leaves()
        outputs = network_outputs(batch, leaves)
        z, C, columns, errors = as_tensor(outputs), curvature(batch, outputs), [], []
        for jv, error in along:
            columns.append(joined(partial(_pulled_back, z, leaves, C(jv.to(z))), leaves, batch.layout, leaves[0]))
            errors.append(columns[-1].norm() * (error / jv.norm().clamp(min=torch.finfo(jv.dtype).tiny)).to(block))
        manner.note(batch.units, torch.stack(errors))
        return torch.stack(columns, dim=1)

    return product


def _pulled_back(z: Tensor, leaves: Sequence[Tensor], u: Tensor, *, create: bool = False) -> Sequence[Tensor | None]:
    """Jᵀu by parameter, None where the outputs do not depend on it."""
    if not z.requires_grad:
        return [None] * len(leaves)
    found: Sequence[Tensor | None] = torch.autograd.grad(
        z, leaves, u, retain_graph=True, create_graph=create, allow_unused=True
    )
    return found


def network_outputs(batch: Batch, pieces: Sequence[Tensor]) -> Tensor | HiddenStates:
    """The outputs at these weights, one tensor. Raises ValueError if they are none, or a loss already."""
    loss, outputs = batch.evaluate_of(pieces)
    z = of_parameters(outputs, batch.network.model, batch.layout.names)
    if not isinstance(z, Tensor | HiddenStates):
        raise BatchError(f"outputs must be one tensor, got {type(z).__name__}; pass forward= that picks it")
    if isinstance(z, Tensor) and z.ndim == 0:
        raise BatchError(
            "outputs must be the network's, before the criterion, got a scalar (0-d) as of a model that returns its "
            "loss; give the outputs by forward= and the loss by criterion"
        )
    if not loss.isfinite():
        raise BatchError(f"batch {batch.index}: the loss is {loss.item()}; check the weights, inputs and targets")
    return z


def _outputs_at(batch: Batch, w: Vector) -> Tensor:
    with torch.no_grad():
        return as_tensor(network_outputs(batch, batch.layout.unflatten(w)))
