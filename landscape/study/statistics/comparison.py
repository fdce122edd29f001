"""Which metrics can the networks not tell from the best one? Paired bootstrap of the difference of two |tau|."""

from collections.abc import Sequence

import numpy as np

from landscape.study.statistics.correlation import interval
from landscape.study.statistics.kendall import signs, weighted_taus
from landscape.study.statistics.resampling import Rows, bootstrap, codes


def level_with(
    table: Rows,
    best: str,
    others: Sequence[str],
    target: str = "generalization_gap",
    *,
    cluster: Sequence[str] = (),
    resamples: int = 2000,
    seed: int = 0,
) -> list[str]:
    """Those of `others` whose |tau| differs from that of `best` by less than the 95 % interval of the difference.

    Both taus are of the same bootstrap samples, so that what the two metrics share cancels. The best was chosen for its
    tau on the same table: a metric that is just told from it may not be on another.

    Args:
        table, target, cluster, resamples, seed: as in `correlate`.
        best: the metric of the largest |tau|.
        others: metrics to compare it with.
    """
    level = []
    for other in others:
        rows = [row for row in table if all(np.isfinite(float(row[name])) for name in (best, other, target))]
        x, z, y = (np.array([float(row[name]) for row in rows]) for name in (best, other, target))
        weights = bootstrap(codes(rows, cluster), resamples, seed)
        first, second = (_oriented(weighted_taus(signs(v), signs(y), weights)) for v in (x, z))
        low, high = interval(first - second)
        if low <= 0 <= high:
            level.append(other)
    return level


def _oriented(taus: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """With the sign that makes their mean positive."""
    return taus * (np.sign(np.nanmean(taus)) or 1.0)
