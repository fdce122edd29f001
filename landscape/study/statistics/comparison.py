"""Which metrics can the networks not tell from the best one? The difference of two |tau| of the same networks.

d ± t_{K−1−T} sqrt(V), T as in interval.py, V from the difference of what each pair of clusters says of either metric,
so that what the two share cancels.
"""

from collections.abc import Sequence

import numpy as np

from landscape.study.statistics.interval import FEWEST, quantile
from landscape.study.statistics.kendall import Tau, tau_b
from landscape.study.statistics.resampling import Rows, codes


def level_with(
    table: Rows,
    best: str,
    others: Sequence[str],
    target: str = "generalization_gap",
    *,
    cluster: Sequence[str] = (),
    resamples: int = 2000,  # noqa: ARG001
    seed: int = 0,  # noqa: ARG001
) -> list[str]:
    """Those of `others` whose |tau| differs from that of `best` by less than the 95 % interval of the difference.

    The best was chosen for its tau on the same table: a metric that is just told from it may not be on another.

    Args:
        table, target, cluster: as in `correlate`.
        best: the metric of the largest |tau|.
        others: metrics to compare it with.
        resamples, seed: not used any more: the interval is computed, not drawn.
    """
    level = []
    for other in others:
        low, high = difference(table, best, other, target, cluster=cluster)
        if not low > 0 and not high < 0:  # an interval that is not known tells nothing apart
            level.append(other)
    return level


def difference(
    table: Rows, first: str, second: str, target: str = "generalization_gap", *, cluster: Sequence[str] = ()
) -> tuple[float, float]:
    """95 % interval of |tau| of one metric less that of another; NaN below 3 clusters."""
    rows = [row for row in table if all(np.isfinite(float(row[name])) for name in (first, second, target))]
    x, z, y = (np.array([float(row[name]) for row in rows]) for name in (first, second, target))
    clusters = codes(rows, cluster)
    less = _oriented(tau_b(x, y, clusters)) - _oriented(tau_b(z, y, clusters))
    count = len(less.deviations)
    if count < FEWEST or not np.isfinite(less.value):
        return float("nan"), float("nan")
    reach = quantile(count, less.tied) * less.variance**0.5
    return less.value - reach, less.value + reach


def _oriented(tau: Tau) -> Tau:
    return -tau if tau.value < 0 else tau
