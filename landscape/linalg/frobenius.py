"""Frobenius norm of a symmetric operator: |A|_F² = tr(A²), by XTrace for A² from products with A alone.

A sketch of the range of A serves A² too, and Qᵀ A² Q = (A Q)ᵀ (A Q): every form that XTrace needs is an inner product
of images that are there already.
Source: Epperly, Tropp and Webber 2024, arXiv:2301.07825; error by the delta method, σ(|A|_F²) / (2 |A|_F).
"""

from dataclasses import replace

import torch

from landscape.checks import integer_in
from landscape.linalg.operator import CurvatureOperator
from landscape.linalg.probe_error import spectral_sum
from landscape.linalg.probes import sphere
from landscape.linalg.scaled import Scaled
from landscape.linalg.sketch import sketch
from landscape.linalg.xtrace import xtrace
from landscape.side_effects import random_source
from landscape.storage.results import Estimate, SpectralDensity


def frobenius_norm(
    operator: CurvatureOperator, *, matvecs: int = 60, generator: torch.Generator | None = None
) -> Estimate:
    """Estimate of |A|_F, the root of the sum of squared eigenvalues, with a calibrated standard error.

    Args:
        operator: symmetric, (P, P).
        matvecs: products in all, at least 4; from P on the norm is exact with P products.
        generator: for the test vectors; default seed 0.
    Raises:
        ValueError: if matvecs is below 4, or the operator gives NaN or infinity.
    """
    size, scaled, source = operator.shape[0], Scaled(operator), random_source(generator)
    integer_in("matvecs", matvecs, min(4, size))
    if matvecs >= size:
        return scaled.estimate(Estimate.exact(scaled.dense().double().norm(), size))
    return scaled.estimate(_root(xtrace(sketch(scaled, sphere(operator, matvecs // 2, source)), squared=True)))


def frobenius_norm_of(density: SpectralDensity, size: int) -> Estimate:
    """|A|_F of an operator (P, P) from its density alone, with the standard error of the probes."""
    return _root(spectral_sum(density, density.nodes**2, size))


def _root(square: Estimate) -> Estimate:
    """√x, its error by the delta method."""
    norm = square.value.clamp(min=0).sqrt()
    return replace(square, value=norm, stderr=square.stderr / (2 * norm).clamp(min=torch.finfo(norm.dtype).tiny))
