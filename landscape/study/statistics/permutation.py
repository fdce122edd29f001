"""Could the strongest of many metrics be chance? Permutation test, corrected for all metrics tried on one table.

The gap is dealt out anew to the networks, the same way for all metrics, which keeps the metrics' own correlations.
p = (1 + #{b: |tau_b| ≥ |tau|}) / (1 + B); corrected, tau_b is the largest over the metrics in deal b.
Source: Westfall and Young 1993, "Resampling-based multiple testing", section 2.3 (single step, max T).
"""

import numpy as np

from landscape.study.statistics.kendall import Array, Codes, apart, ratio, signs

CHUNK = 50  # deals at a time: the signs of 320 networks are 10 MB


def permutation_p(metrics: Array, gap: Array, orders: Codes, clusters: Codes) -> tuple[Array, Array]:
    """p of each metric's tau-b, alone and corrected for the number of metrics, (m,) each.

    Args:
        metrics: (m, n); NaN where a network lacks the metric.
        gap: (n,), finite.
        orders: of the networks in which the gap is dealt out, (B, n); clusters change places as wholes.
        clusters: the number of each network's cluster, (n,); pairs within one do not count.
    Returns:
        The two-sided p-values; NaN where tau is.
    """
    i, j = np.nonzero(np.triu(apart(clusters)))
    s = np.stack([signs(x)[i, j] for x in metrics])
    known = np.isfinite(metrics)
    both = (known[:, i] & known[:, j]).astype(np.float32)
    t = signs(gap)

    def taus(orders: Codes) -> Array:
        """tau-b of every metric with the gap in each order, (B, m)."""
        dealt = t[orders[:, i], orders[:, j]]
        norms = (s**2).sum(1, dtype=np.float64) * (dealt**2 @ both.T)
        return ratio((dealt @ s.T).astype(np.float64), np.sqrt(norms))

    there = np.abs(taus(np.arange(len(gap))[None]))[0]
    by_chance = np.abs(np.concatenate([taus(part) for part in np.array_split(orders, -(-len(orders) // CHUNK))]))
    largest = np.nan_to_num(by_chance).max(1, keepdims=True)
    return _share_above(by_chance, there), _share_above(largest, there)


def _share_above(by_chance: Array, there: Array) -> Array:
    reached = (by_chance >= there - 1e-9).sum(0)  # tau is a fraction: what is equal must count
    return np.where(np.isfinite(there), (1 + reached) / (1 + len(by_chance)), np.nan)
