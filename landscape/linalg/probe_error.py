"""Sums over the spectrum, and their standard error from the spectrum itself: it serves few probes too.

For u uniform on the unit sphere of n dimensions n uᵀf(A)u has the mean tr f and the variance
2 (n tr f² − (tr f)²) / (n + 2). The quadrature that gives tr f gives tr f² too, all probes together, and so an error
that is known to some per cent where the spread of three probes may be ten times too small. Outliers have their exact
weight and add nothing to it. What too few steps miss is not in it.
"""

import torch
from torch import Tensor

from landscape.storage.results import Estimate, SpectralDensity


def spectral_sum(density: SpectralDensity, values: Tensor, size: int) -> Estimate:
    """tr f(A) = P times the mean over probes of Σ weight · f(node), with its standard error.

    Args:
        density: of `spectral_density`, its probes normalised Gaussian vectors, or exact, all weights 1 / P.
        values: f at its nodes, (probes, steps + k).
        size: P.
    """
    total = size * (density.weights * values).sum(1).mean()
    if bool((density.weights == 1 / size).all()):
        return Estimate(value=total, stderr=torch.zeros_like(total), matvecs=density.matvecs)
    steps, rest = values.shape[1] - len(density.outliers), size - len(density.outliers)
    weights, values = size * density.weights[:, :steps], values[:, :steps]
    error = probe_error((weights * values).sum(1), (weights * values**2).sum(1), rest)
    return Estimate(value=total, stderr=error, matvecs=density.matvecs)


def probe_error(first: Tensor, second: Tensor, size: int) -> Tensor:
    """Standard error of the mean over probes, (), from n uᵀf(A)u and n uᵀf(A)²u of each, (probes,), n = `size`."""
    variance = 2 * (size * second.mean() - first.mean() ** 2) / (size + 2)
    return (variance.clamp(min=0) / len(first)).sqrt()
