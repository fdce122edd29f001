"""Hessian products from gradients alone, for models without second derivatives: four gradients a product.

With u = v/|v| and D(h) = (∇L(w + hu) − ∇L(w − hu)) / 2h, one step of Richardson's extrapolation,
H u = (4 D(h/2) − D(h)) / 3 + O(h⁴). The length of v does not enter the step, so that a ±1 probe of length sqrt(P) moves
the weights no further than a unit vector. The error is estimated by 2 |D(h/2) − D(h)|: above the truncation error,
of which it is the part that the extrapolation removes, and above the rounding of the three differences.
Source: Richardson 1911, "The approximate arithmetical solution by finite differences"; Ridders 1982.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from landscape.curvature.kept_graphs import Product
from landscape.program import Batch, gradient_of
from landscape.vectors import Block, Vector

STEPS = 6  # candidates, each a quarter of the one before
ORDER = 5  # truncation h⁴ and rounding eps/h balance at h = eps^(1/5)


def central_differences(batch: Batch, step: float, note: Callable[[float, Tensor], None]) -> Product:
    """The batch's Hessian by differences of length `step`.

    Args:
        note: told the batch's units and the estimated error of each column, (K,).
    """

    def product(block: Block) -> Block:
        columns, errors = zip(*(_extrapolated(batch, v, step) for v in block.T), strict=True)
        note(batch.units, torch.stack(errors))
        return torch.stack(columns, dim=1)

    return product


def best_step(batch: Batch, v: Vector) -> float:
    """The step with the smallest estimated error for this vector, from eps^(1/5) (1 + |w|) downwards."""
    largest = torch.finfo(batch.w.dtype).eps ** (1 / ORDER) * float(1 + batch.w.norm())
    steps = [largest / 4**i for i in range(STEPS)]
    errors = [float(_extrapolated(batch, v, step)[1]) for step in steps]
    return steps[min(range(STEPS), key=lambda i: errors[i] if errors[i] >= 0 else float("inf"))]  # NaN is no candidate


def _extrapolated(batch: Batch, v: Vector, step: float) -> tuple[Vector, Tensor]:
    """H v, (P,), and its estimated error, ()."""
    length = v.norm()
    if length == 0:
        return torch.zeros_like(v), length
    u = v / length
    wide, narrow = (_difference(batch, u, h) for h in (step, step / 2))
    return length * (4 * narrow - wide) / 3, 2 * length * (narrow - wide).norm()


def _difference(batch: Batch, u: Vector, h: float) -> Vector:
    ahead, behind = batch.w + h * u, batch.w - h * u
    return (_gradient(batch, ahead) - _gradient(batch, behind)) / (2 * h)


def _gradient(batch: Batch, w: Vector) -> Vector:
    leaf = w.requires_grad_()
    return gradient_of(batch.afresh().loss(leaf), leaf)
