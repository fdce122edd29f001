"""Could the strongest of many metrics be chance? Permutation test, corrected for all metrics tried on one table.

The gap is dealt out anew to the networks, the same way for all metrics, which keeps the metrics' own correlations.
p = (1 + #{b: |tau_b| ≥ |tau|}) / (1 + B); corrected, tau_b is the largest over the metrics in deal b.
Source: Westfall and Young 1993, "Resampling-based multiple testing", section 2.3 (single step, max T).
"""

import numpy as np
from numpy.typing import NDArray

from landscape.study.statistics.kendall import Array, ratio, signs
from landscape.study.statistics.resampling import Codes

CHUNK = 100  # deals at a time: the signs of 120 networks are 6 MB


def permutation_p(metrics: Array, gap: Array, orders: Codes) -> tuple[Array, Array]:
    """p of each metric's tau-b, alone and corrected for the number of metrics, (m,) each.

    Args:
        metrics: (m, n); NaN where a network lacks the metric.
        gap: (n,), finite.
        orders: of the networks in which the gap is dealt out, (B, n).
    Returns:
        The two-sided p-values; NaN where tau is.
    """
    s = np.stack([signs(x) for x in metrics])
    known = np.isfinite(metrics)
    both = (known[:, :, None] & known[:, None, :]).astype(np.float32)
    there = np.abs(_taus(s, both, gap, np.arange(len(gap))[None]))[0]
    by_chance = np.abs(
        np.concatenate([_taus(s, both, gap, part) for part in np.array_split(orders, -(-len(orders) // CHUNK))])
    )
    largest = np.nan_to_num(by_chance).max(1, keepdims=True)
    return _share_above(by_chance, there), _share_above(largest, there)


def _taus(s: NDArray[np.float32], both: NDArray[np.float32], gap: Array, orders: Codes) -> Array:
    """tau-b of every metric with the gap in each order, (B, m)."""
    t = signs(gap)
    dealt = t[orders[:, :, None], orders[:, None, :]].reshape(len(orders), -1)
    flat, pairs = s.reshape(len(s), -1), both.reshape(len(both), -1)
    norms = (flat**2).sum(1, dtype=np.float64) * (dealt**2 @ pairs.T)
    return ratio((dealt @ flat.T).astype(np.float64), np.sqrt(norms))


def _share_above(by_chance: Array, there: Array) -> Array:
    reached = (by_chance >= there - 1e-9).sum(0)  # tau is a fraction: what is equal must count
    return np.where(np.isfinite(there), (1 + reached) / (1 + len(by_chance)), np.nan)
