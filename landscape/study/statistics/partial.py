"""Rank correlation of metric and gap given a third number, such as the training loss.

r_xy.z = (r_xy − r_xz r_yz) / sqrt((1 − r_xz²)(1 − r_yz²)) with Spearman's r, of ranks among the networks of other
clusters. Where the three are jointly normal and independent given z it is nearly 0, not exactly.
Source: Spearman 1904; the formula is that of partial correlation; the jackknife is Tukey's, over clusters.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.study.statistics.interval import interval, most_tied
from landscape.study.statistics.kendall import Array, Codes, apart, ratio


def partial_interval(x: Array, y: Array, z: Array, clusters: Codes) -> tuple[float, float, float]:
    """Value, low and high of the correlation of x and y given z, (n,) each.

    V = (K−1)/K Σ (r₍ₖ₎ − mean)², r₍ₖ₎ without cluster k. No interval where a single cluster decides whether there is
    a value at all.
    """
    clusters = np.unique(clusters, return_inverse=True)[1]
    count = int(clusters.max()) + 1
    every = np.ones((1, len(x)))
    without = (clusters[None, :] != np.arange(count)[:, None]).astype(np.float64)
    value, *left = partial_correlations(x, y, z, np.concatenate([every, without]), clusters)
    variance = (count - 1) / count * float(((left - np.mean(left)) ** 2).sum())
    return (float(value), *interval(float(value), variance, count, most_tied(count, x, y)))


def partial_correlations(x: Array, y: Array, z: Array, weights: NDArray[Any], clusters: Codes) -> Array:
    """Spearman's correlation of x and y given z, for each row of weights, (B, n) to (B,); NaN where undefined."""
    w = weights.astype(np.float64)
    a, b, c = (_centred_ranks(v, w, clusters) for v in (x, y, z))
    xy, xz, yz = (_correlation(w, *pair) for pair in ((a, b), (a, c), (b, c)))
    left = (1 - xz**2) * (1 - yz**2)
    return ratio(xy - xz * yz, np.sqrt(np.where(left > 1e-12, left, 0)))


def _centred_ranks(x: Array, w: Array, clusters: Codes) -> Array:
    """Mid-ranks among the weighted networks of other clusters less their mean, (B, n)."""
    below = ((x[:, None] < x[None, :]) + 0.5 * (x[:, None] == x[None, :])) * apart(clusters)
    ranks = w @ below
    centred: Array = ranks - (ratio((w * ranks).sum(1), w.sum(1)))[:, None]
    return centred


def _correlation(w: Array, a: Array, b: Array) -> Array:
    ab, aa, bb = ((w * left * right).sum(1) for left, right in ((a, b), (a, a), (b, b)))
    return ratio(ab, np.sqrt(aa * bb))
