"""The standard error of a sum over the spectrum, from the spectrum itself: for densities of few probes.

For u uniform on the unit sphere of n dimensions n uᵀf(A)u has the mean tr f and the variance
2 (n tr f² − (tr f)²) / (n + 2). The quadrature that gives tr f gives tr f² too, all probes together, and so an error
that is known to some per cent where the spread of three probes may be ten times too small.
"""

from torch import Tensor

from landscape.storage.results import SpectralDensity


def probe_error(density: SpectralDensity, values: Tensor, size: int) -> Tensor:
    """Standard error of the mean over probes of P Σ weight · f(node), ().

    Outliers have their exact weight and add nothing, nor does a dense spectrum. What too few steps miss is not in it.

    Args:
        density: of `spectral_density`, its probes normalised Gaussian vectors.
        values: f at its nodes, (probes, steps + k).
        size: P.
    """
    if bool((density.weights == 1 / size).all()):
        return values.new_zeros(())
    steps, n = values.shape[1] - len(density.outliers), size - len(density.outliers)
    weights, values = size * density.weights[:, :steps], values[:, :steps]
    first, second = (weights * values).sum(1).mean(), (weights * values**2).sum(1).mean()
    variance = 2 * (n * second - first**2) / (n + 2)
    return (variance.clamp(min=0) / len(values)).sqrt()
