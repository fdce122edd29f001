"""Smallest and largest eigenvalue of a symmetric operator, each as exact as the spectrum is wide.

First the end of largest magnitude, a; then the other one as the end of largest magnitude of A − a I, whose eigenvalues
are their distances to a. A stop by the residual relative to λmin itself would spend its products on the digits of a
zero, for the Hessian of a network has λmin near 0 wherever the loss is convex.

Seen from a, the many eigenvalues near 0 of a network are almost as far as λmin, and a Ritz value among them has a small
residual long before λmin shows. So the second end is believed only after ten further products.
"""

from typing import Any

import torch

from landscape.checks import positive
from landscape.linalg.eigen import top_eigenpairs
from landscape.linalg.operator import CurvatureOperator
from landscape.linalg.probes import gaussian
from landscape.linalg.shifted import Shifted
from landscape.side_effects import random_source
from landscape.storage.results import EigenPairs


def spectrum_ends(
    operator: CurvatureOperator,
    *,
    tol: float = 1e-4,
    max_matvecs: int | None = None,
    generator: torch.Generator | None = None,
) -> EigenPairs:
    """The two ends of the spectrum, λmin before λmax.

    Args:
        operator: symmetric, (P, P).
        tol: an end has converged when its residual is at most tol · max(|λmin|, |λmax|).
        max_matvecs: products at most for each end.
        generator: for the starting vectors; default seed 0.
    Returns:
        Two pairs; each value is within its residual of an eigenvalue. λmin is at least the true one, λmax at most.
    Raises:
        ValueError: if an argument is out of range, or the operator gives NaN or infinity.
    """
    positive("tol", tol)
    source = random_source(generator)
    how: dict[str, Any] = {"max_matvecs": max_matvecs, "generator": source, "progress": False}
    far = top_eigenpairs(operator, 1, tol=tol, **how)
    shift = far.values[0]
    shifted = Shifted(operator, shift)  # as wide as |λmax − λmin| <= 2 max(|λmin|, |λmax|)
    start = gaussian(operator, 1, source)[:, 0]  # a start of the caller's has to outlast ten products
    near = top_eigenpairs(shifted, 1, tol=tol / 2, start=start, **how)
    values, residuals = torch.cat([near.values + shift, far.values]), torch.cat([near.residuals, far.residuals])
    order = values.argsort(stable=True)
    return EigenPairs(
        values=values[order],
        vectors=torch.cat([near.vectors, far.vectors], dim=1)[:, order],
        residuals=residuals[order],
        converged=residuals[order] <= tol * values.abs().max(),
        matvecs=near.matvecs + far.matvecs,
        verified=operator.verified,
    )
