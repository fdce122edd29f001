"""Diagonal of a symmetric operator by XDiag.

diag(A) = diag(Q Qᵀ A) + E ω ⊙ (I − Q Qᵀ) A ω for signs ω: the sketch Q carries what is large, the signs the rest; each
test vector is left out of its own sketch and the results are averaged.
Source: Epperly, Tropp and Webber 2024, arXiv:2301.07825, section 2.4.
"""

import torch

from landscape.checks import integer_in
from landscape.isolation import random_source
from landscape.linalg.probes import rademacher
from landscape.linalg.sketch import sketch
from landscape.operator import CurvatureOperator
from landscape.results import Estimate


def diagonal(operator: CurvatureOperator, *, matvecs: int = 60, generator: torch.Generator | None = None) -> Estimate:
    """Estimate of diag(A) with entrywise standard errors.

    Args:
        operator: symmetric, (P, P).
        matvecs: products in all, at least 4; from P on the diagonal is exact with P products.
        generator: for the test vectors; default seed 0.
    Returns:
        Estimate with value and stderr (P,), float64; exact up to rounding where the rank is below matvecs / 2.
    Raises:
        ValueError: if matvecs is below 4.
    """
    size = operator.shape[0]
    integer_in("matvecs", matvecs, min(4, size))
    if matvecs >= size:
        exact = operator.dense().diagonal().double().cpu()
        return Estimate(value=exact, stderr=torch.zeros_like(exact), matvecs=size)
    found = sketch(operator, rademacher(operator, matvecs // 2, random_source(generator)))
    whole = (found.basis * found.basis_images).sum(1, keepdim=True)  # diag(Q Qᵀ A), (P, 1)
    removed = found.basis @ found.left_out  # Q sᵢ, (P, m)
    removed_images = found.basis_images @ found.left_out
    outside = removed * (removed * found.images).sum(0)  # (I − Qᵢ Qᵢᵀ) A ωᵢ
    samples = (whole - removed * removed_images + found.probes * outside).double()
    stderr = samples.std(1) / samples.shape[1] ** 0.5
    return Estimate(value=samples.mean(1).cpu(), stderr=stderr.cpu(), matvecs=found.matvecs)
