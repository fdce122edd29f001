"""Frobenius norm of a symmetric operator: |A|_F² = tr(A²), by XTrace for A² from products with A alone.

A sketch of the range of A serves A² too, and Qᵀ A² Q = (A Q)ᵀ (A Q): every form that XTrace needs is an inner product
of images that are there already.
Source: Epperly, Tropp and Webber 2024, arXiv:2301.07825; error by the delta method, σ(|A|_F²) / (2 |A|_F).
"""

import torch

from landscape.checks import integer_in
from landscape.linalg.operator import CurvatureOperator
from landscape.linalg.probes import sphere
from landscape.linalg.scaled import Scaled
from landscape.linalg.sketch import sketch
from landscape.linalg.xtrace import xtrace
from landscape.side_effects import random_source
from landscape.storage.results import Estimate


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
    size, scaled = operator.shape[0], Scaled(operator)
    integer_in("matvecs", matvecs, min(4, size))
    if matvecs >= size:
        norm = scaled.dense().double().norm().cpu()
        return scaled.estimate(Estimate(value=norm, stderr=torch.zeros_like(norm), matvecs=size))
    found = sketch(scaled, sphere(operator, matvecs // 2, random_source(generator)))
    square = xtrace(found, squared=True)
    norm = square.value.clamp(min=0).sqrt()
    stderr = square.stderr / (2 * norm).clamp(min=torch.finfo(norm.dtype).tiny)
    return scaled.estimate(Estimate(value=norm, stderr=stderr, matvecs=found.matvecs))
