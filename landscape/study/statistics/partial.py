"""Rank correlation of metric and gap given a third number, such as the training loss.

r_xy.z = (r_xy − r_xz r_yz) / sqrt((1 − r_xz²)(1 − r_yz²)) with Spearman's r. Where the three are jointly normal and
independent given z it is nearly 0, not exactly. Source: Spearman 1904; the formula is that of partial correlation.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.study.statistics.kendall import Array, ratio


def partial_correlations(x: Array, y: Array, z: Array, weights: NDArray[Any]) -> Array:
    """Spearman's correlation of x and y given z, for each row of weights, (B, n) to (B,); NaN where undefined."""
    w = weights.astype(np.float64)
    a, b, c = (_centred_ranks(v, w) for v in (x, y, z))
    xy, xz, yz = (_correlation(w, *pair) for pair in ((a, b), (a, c), (b, c)))
    left = (1 - xz**2) * (1 - yz**2)
    return ratio(xy - xz * yz, np.sqrt(np.where(left > 1e-12, left, 0)))


def _centred_ranks(x: Array, w: Array) -> Array:
    """Mid-ranks in the weighted sample less their mean, (B, n)."""
    below = (x[:, None] < x[None, :]) + 0.5 * (x[:, None] == x[None, :])
    ranks = w @ below
    centred: Array = ranks - ((w * ranks).sum(1) / w.sum(1))[:, None]
    return centred


def _correlation(w: Array, a: Array, b: Array) -> Array:
    ab, aa, bb = ((w * left * right).sum(1) for left, right in ((a, b), (a, a), (b, b)))
    return ratio(ab, np.sqrt(aa * bb))
