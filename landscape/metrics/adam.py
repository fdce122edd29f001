"""Sums over the square roots of the curvature's diagonal: Adam's tr(diag(H)^½), and Σ |w| Hᵢᵢ^½.

The second does not change when a layer is multiplied by c and the next divided by it; the first does.
Source: Li, Wen & Lyu 2025, arXiv:2511.02773, for the first; the second is made from it here.
"""

import torch
from torch import Tensor

from landscape.checks import integer_in, one_of
from landscape.curvature import ggn, hessian
from landscape.linalg import diagonal
from landscape.metrics.metric import measured
from landscape.problem import Problem
from landscape.problem.cost import GAUSS_NEWTON, HESSIAN
from landscape.side_effects import random_source
from landscape.storage.results import Estimate
from landscape.storage.results.student import widening

PRODUCT = {"hessian": HESSIAN, "ggn": GAUSS_NEWTON}  # its cost
GROUPS = 4  # independent diagonals, the fewest products each (4) of the fewest in all (16), for the jackknife


@measured
def adam_sharpness(
    problem: Problem,
    *,
    operator: str = "hessian",
    adaptive: bool = False,
    matvecs: int = 64,
    generator: torch.Generator | None = None,
) -> Estimate:
    """tr(diag(H)^½) with negative entries taken as 0, the sharpness that Adam's implicit bias lowers.

    The square root of a noisy entry is biased: low where the entry is well above its noise, high where entries near
    zero are clamped. Four independent XDiag estimates give a jackknife: the value has the first-order bias taken off,
    and the details say how large it was. Where few products meet a diagonal that no low rank explains, what is left of
    the bias can exceed the standard error: compare networks at the same number of products.

    Args:
        problem: the scalar function.
        operator: "hessian" | "ggn" (never negative).
        adaptive: weigh each entry with |w|: Σ |w| Hᵢᵢ^½.
        matvecs: products in all, at least 16; exact with P products from 4 P on.
        generator: default seed 0.
    Returns:
        Estimate; details: bias, the part that was taken off, and negative, the share of entries clamped.
    Raises:
        ValueError: if an argument is out of range.
    """
    integer_in("matvecs", matvecs, 4 * GROUPS)
    one_of("operator", operator, tuple(PRODUCT))
    curvature, w = (hessian if operator == "hessian" else ggn)(problem), problem.vector().double().cpu()
    scale = w.abs() if adaptive else torch.ones_like(w)
    if matvecs // GROUPS >= problem.size:
        entries = diagonal(curvature, matvecs=problem.size).value
        negative = float((entries < 0).double().mean())
        return Estimate.exact(float(_root_sum(entries, scale)), matvecs=problem.size, bias=0.0, negative=negative)
    source = random_source(generator)
    found = [diagonal(curvature, matvecs=matvecs // GROUPS, generator=source) for _ in range(GROUPS)]
    entries = torch.stack([estimate.value for estimate in found])
    whole = _root_sum(entries.mean(0), scale)
    left_out = torch.stack([_root_sum((entries.sum(0) - entry) / (GROUPS - 1), scale) for entry in entries])
    bias = (GROUPS - 1) * (left_out.mean() - whole)
    spread = ((GROUPS - 1) / GROUPS * (left_out - left_out.mean()).square().sum()).sqrt()
    return Estimate(
        value=whole - bias,
        stderr=spread * widening(GROUPS - 1),
        matvecs=sum(estimate.matvecs for estimate in found),
        details={"bias": float(bias), "negative": float((entries.mean(0) < 0).double().mean())},
    )


def _root_sum(entries: Tensor, scale: Tensor) -> Tensor:
    return (scale * entries.clamp(min=0).sqrt()).sum()
