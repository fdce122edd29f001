"""Rényi sharpness, −H_a of the spectrum: how unevenly the curvature is spread over the eigenvalues.

H_a = log(tr|H|^a / (tr|H|)^a) / (1 − a), and for a = 1 its limit −Σ q log q with q = |λ| / tr|H|. It is highest, −H =
0, when one eigenvalue holds everything, and lowest, −log P, when all are equal. It does not see the scale of the loss.
Source: Zhang, Sun, Zhang & Liu 2025, arXiv:2510.07758; the traces by stochastic Lanczos quadrature, arXiv:1308.5467.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from landscape.checks import integer_in, one_of, positive, require
from landscape.curvature import hessian, hessian_blocks
from landscape.linalg.operator import CurvatureOperator
from landscape.linalg.probe_error import spectral_sum
from landscape.metrics.metric import measured
from landscape.metrics.spectral import quadrature_or_exact, whole_density
from landscape.problem import Problem
from landscape.side_effects import random_source
from landscape.storage.results import Estimate, SpectralDensity


@measured
def renyi(
    problem: Problem,
    *,
    order: float | Sequence[float] = 2.0,
    by: str | None = None,
    biases: bool = True,
    probes: int = 100,
    steps: int = 15,
    leading: bool = False,
    density: SpectralDensity | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    """Rényi sharpness of the Hessian or of each of its layers' blocks.

    By layer it is invariant under a rescaling of ReLU layers, W c and W' / c, only for weights without their biases:
    a bias is not divided with its weight, so that the block of both changes its shape. The whole network's is not.

    The order must be chosen before the generalisation gap is seen: choosing it afterwards is selection on the target.

    Args:
        problem: the scalar function.
        order: a, positive; the paper's .5 is for clustered spectra, 1.5 for uniform ones. Several share one density.
        by: None for the whole network, "layer" for one value a module, in the order of `hessian_blocks`.
        biases: with biases and the scales and shifts of normalisation layers, or weights alone; a layer without any is
            left out.
        probes, steps: of the quadrature; reference 100 × 15. Where P is at most probes × steps the dense spectrum is
            cheaper and exact, and is used.
        leading: of the whole network: find the five leading eigenvalues first, see `whole_density`; for few probes.
        density: the Hessian's, if known already; replaces probes and steps where `by` is None and biases count.
        generator: default seed 0.
    Returns:
        Estimate, value and stderr () or (layers,), of several orders (orders,) or (orders, layers); the error is that
        of the quadrature's probes, not of its steps: |λ| has a kink at 0, so that networks should be compared at the
        same number.
    Raises:
        ValueError: if an argument is out of range, the Hessian is zero, or no chosen parameter is a weight.
    """
    orders = list(order) if isinstance(order, Sequence) else [order]
    for a in orders:
        positive("order", a)
    one_of("by", by, (None, "layer"))
    integer_in("probes", probes, 2)
    integer_in("steps", steps, 1)
    source, known = random_source(generator), density if by is None and biases else None
    if leading and known is None and by is None and biases:
        known = whole_density(problem, source, probes=probes, steps=steps)
    if known is not None:
        spectra = [(known, problem.size)]
    else:
        blocks = [block for block in _blocks(problem, by, biases) if block.shape[0] > 0]
        spectra = [(quadrature_or_exact(block, probes, steps, source), block.shape[0]) for block in blocks]
    found = [[_negative_entropy(spectrum, size, a) for spectrum, size in spectra] for a in orders]
    shape = ([len(orders)] if isinstance(order, Sequence) else []) + ([len(spectra)] if by else [])
    return Estimate(
        value=torch.stack([estimate.value for row in found for estimate in row]).reshape(shape),
        stderr=torch.stack([estimate.stderr for row in found for estimate in row]).reshape(shape),
        matvecs=sum(spectrum.matvecs for spectrum, _ in spectra),
    )


def _blocks(problem: Problem, by: str | None, biases: bool) -> list[CurvatureOperator]:
    """The Hessian of the weights, or that of each layer."""
    if not biases:
        layout = problem.layout
        weights = [name for name, weight in zip(layout.names, layout.is_weight, strict=True) if weight]
        require(len(weights) > 0, f"parameters must hold at least one weight, got {', '.join(layout.names)}")
        problem = problem.restricted_to(weights)
    return [hessian(problem)] if by is None else list(hessian_blocks(problem).values())


def _negative_entropy(density: SpectralDensity, size: int, order: float) -> Estimate:
    nodes, weights = density.nodes.abs(), size * density.weights
    total = (weights * nodes).sum(1).mean()  # tr|H|
    if not bool(total > 0):
        raise ValueError("the Hessian is zero, so that its spectrum has no entropy; check the loss and the data")
    value, influence = _entropy(nodes / total, weights, order)
    return Estimate(value=-value, stderr=spectral_sum(density, influence, size).stderr)


def _entropy(q: Tensor, weights: Tensor, order: float) -> tuple[Tensor, Tensor]:
    """H_a of the shares of the curvature, and each node's influence on it (delta method); no power overflows."""
    if order == 1:
        logs = -torch.special.xlogy(q, q)
        value = (weights * logs).sum(1).mean()
        # for shares that add up to s, H = log s − Σ q log q / s; the influences are its derivative at s = 1
        return value, logs - (value - 1) * q
    powers = q**order
    power = (weights * powers).sum(1).mean()
    return power.log() / (1 - order), (powers / power - order * q) / (1 - order)
