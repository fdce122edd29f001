"""Curvature seen in units of the weights themselves, so that rescaling one layer against the next changes nothing.

Fisher-Rao norm sqrt(wᵀFw), and relative flatness Σ_l Σ_{s,s'} <w_s, w_s'> tr(H_ss'), where w_s are the rows of layer
l's matrix (its neurons) and H_ss' the blocks of its Hessian.
Source: Liang et al. 2019, arXiv:1711.01530; Petzka et al. 2021, arXiv:2001.00939.
"""

from math import sqrt

import torch
from torch import Tensor

from landscape.checks import integer_in, one_of, require
from landscape.curvature import fisher, hessian
from landscape.metrics.metric import measured
from landscape.problem import Problem
from landscape.side_effects import random_source
from landscape.storage.results import Estimate
from landscape.storage.results.student import calibrated_error
from landscape.vectors import flatten, normal_like


@measured
def fisher_rao(problem: Problem, *, labels: str = "model", generator: torch.Generator | None = None) -> Estimate:
    """wᵀFw, the square of the Fisher-Rao norm; one product.

    Liang et al. define the norm as sqrt(wᵀFw) with the labels of the data, F the mean over samples of g gᵀ: that is
    `norm` of labels="data". With the model's own labels, drawn from its outputs, F is another matrix and wᵀFw another
    number. All of them stay where ReLU layers are
    rescaled, with their biases or without any.

    Args:
        problem: the scalar function.
        labels: "model" (exact Fisher, the expectation over labels) | "data" (empirical Fisher).
        generator: not used; for the common signature.
    Returns:
        Estimate with stderr 0; details: norm, its root.
    Raises:
        ValueError: if labels is neither.
    """
    one_of("labels", labels, ("model", "data"))
    w = problem.vector()
    F = fisher(problem, "exact" if labels == "model" else "empirical")
    value = max(float((w @ F.matvec(w)).double()), 0.0)
    return Estimate.exact(value, matvecs=1, norm=sqrt(value))


@measured
def relative_flatness(
    problem: Problem, *, by: str | None = None, draws: int = 8, generator: torch.Generator | None = None
) -> Estimate:
    """Relative flatness of all layers together or of each; large is sharp.

    With a square matrix Z of signs and Y = W Z, the expectation of Σ Y ⊙ (H Y) over a layer is its relative flatness;
    the signs of different layers are independent, so that one product serves all.

    Args:
        problem: the scalar function.
        by: None for the sum over layers, "layer" for one value a weight matrix, in the order of w.
        draws: products with the Hessian, at least 2.
        generator: for the signs; default seed 0.
    Returns:
        Estimate in loss units, () or (layers,), with the standard error over draws.
    Raises:
        ValueError: if an argument is out of range, or no chosen parameter is a matrix.
    """
    one_of("by", by, (None, "layer"))
    integer_in("draws", draws, 2)
    source, layout, H = random_source(generator), problem.layout, hessian(problem)
    matrices = [
        weight and len(shape) > 1 and shape.numel() > 0
        for weight, shape in zip(layout.is_weight, layout.shapes, strict=True)
    ]
    require(any(matrices), "parameters must hold at least one weight matrix, got none")
    samples = []
    for _ in range(draws):
        pieces = zip(layout.unflatten(problem.vector()), matrices, strict=True)
        Y = flatten([_mixed(piece, source) if matrix else torch.zeros_like(piece) for piece, matrix in pieces])
        parts = (Y * H.matvec(Y)).double().split(layout.sizes)
        samples.append(torch.stack([part.sum() for part, matrix in zip(parts, matrices, strict=True) if matrix]).cpu())
    layers = torch.stack(samples)  # (draws, layers)
    wanted = layers if by else layers.sum(1)
    return Estimate(value=wanted.mean(0), stderr=calibrated_error(wanted), matvecs=draws)


def _mixed(weight: Tensor, source: torch.Generator) -> Tensor:
    """W Z in the shape of W, for a square matrix Z of signs."""
    matrix = weight.flatten(1)
    signs = normal_like(matrix.new_empty(matrix.shape[1], matrix.shape[1]), source).sign()
    return (matrix @ signs).view_as(weight)
