"""Means over independent seeds with 95 % intervals by Student's t."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import t


def interval(values: Sequence[float], outside: float = 0.05) -> tuple[float, float, float]:
    """Mean, lower and upper end: mean ± t(1 − outside/2, n − 1) s/√n. NaN ends for one value."""
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return mean, float("nan"), float("nan")
    half = float(t.ppf(1 - outside / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half


def difference(values: Sequence[float], others: Sequence[float], outside: float = 0.05) -> tuple[float, float, float]:
    """Interval of values − others, seed by seed: the same start and the same wrong labels in both."""
    return interval([value - other for value, other in zip(values, others, strict=True)], outside)


def verdict(found: Sequence[float], claimed: int = 1) -> str:
    """Of a claim that a difference has the sign `claimed`: "agrees" and "differs" where the interval leaves out 0."""
    _, low, high = found
    if low > 0 or high < 0:
        return "agrees" if (low > 0) == (claimed > 0) else "differs"
    return "cannot say"
