"""How much of the gap's order a metric tells beyond any two hyper-parameters: Jiang's conditional mutual information K.

K = min over |S| ≤ 2 of I(V_μ; V_g | U_S) / H(V_g | U_S), V the sign of the difference between two networks in metric or
in gap, U_S the values that both networks have in the hyper-parameters S; over pairs from different clusters.
Source: Jiang et al. 2020, "Fantastic generalization measures", arXiv:1912.02178, section 2.2.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from landscape.study.statistics.kendall import Array, Codes, Signs, apart


def conditional_information(
    s: Signs, gaps: Sequence[Signs], axes: Sequence[Codes], clusters: Codes, largest: int = 2
) -> Array:
    """K of a metric for each gap, in [0, 1]: 1 where the order by metric is that by gap, or its reverse.

    The plug-in estimate over all ordered pairs. It is biased upwards where few pairs share the values of S, so that
    a metric that tells nothing has a K above 0, which exchanged gaps show; a set S that leaves nothing of the gap's
    order open is passed over.

    Args:
        s: signs of the differences in the metric, (n, n).
        gaps: the same of one gap or more.
        axes: of each hyper-parameter, the number of the value that each network has, (n,).
        clusters: the number of each network's cluster, (n,).
        largest: size of S at most.
    Returns:
        K of each gap; NaN where it is constant.
    """
    pairs = apart(clusters) > 0
    outcomes = [(3 * (s + 1) + (t + 1)).astype(np.int64)[pairs] for t in gaps]
    sets = [subset for size in range(largest + 1) for subset in combinations(axes, size)]
    values = [_values(subset, pairs) for subset in sets]
    shares = np.array([[_share(outcome, own) for own in values] for outcome in outcomes])
    return np.where(np.isfinite(shares).any(1), np.nan_to_num(shares, nan=np.inf).min(1), np.nan)


def _values(subset: Sequence[Codes], pairs: NDArray[np.bool_]) -> Codes:
    """9 times the number of the values that a pair of networks has in S, for every pair."""
    first: Codes = np.zeros(len(pairs), dtype=np.int64)
    for axis in subset:
        first = np.unique(first * (axis.max() + 1) + axis, return_inverse=True)[1]
    return 9 * (first[:, None] * (first.max() + 1) + first[None, :])[pairs]


def _share(outcome: Codes, values: Codes) -> float:
    """I(V_μ; V_g | U) / H(V_g | U) of the pairs' frequencies; NaN where H is 0."""
    cells = np.bincount(values + outcome, minlength=int(values.max(initial=0)) + 9).reshape(-1, 3, 3)
    joint, metric, gap, value = (_entropy(cells.sum(sums)) for sums in ((), 2, 1, (1, 2)))
    left = gap - value  # H(V_g | U)
    told = metric + gap - joint - value
    return max(0.0, told / left) if left > 1e-12 else float("nan")


def _entropy(counts: NDArray[np.int64]) -> float:
    p: Array = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())
