"""Means over independent seeds and shares of trials with 95 % intervals, and the verdicts that these allow."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

K = TypeVar("K")


def interval(values: Sequence[float], outside: float = 0.05) -> tuple[float, float, float]:
    """Mean, lower and upper end: mean ± t(1 − outside/2, n − 1) s/√n. NaN ends for one value."""
    from scipy.special import stdtrit  # here, as the workers of a script need none of it

    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return mean, float("nan"), float("nan")
    half = float(stdtrit(n - 1, 1 - outside / 2) * np.std(values, ddof=1) / np.sqrt(n))
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


def lies_in(found: Iterable[float], low: float, high: float) -> str:
    """Of a claim that a number lies in [low, high]; its interval (mean, lower, upper end) must not straddle a bound."""
    _, lower, upper = found
    if low <= lower and upper <= high:
        return "agrees"
    return "differs" if upper < low or lower > high else "cannot say"


def share(count: int, trials: int, outside: float = 0.05) -> tuple[float, float, float]:
    """The share of trials with its interval of Clopper and Pearson."""
    from scipy.special import betaincinv

    low = float(betaincinv(count, trials - count + 1, outside / 2)) if count else 0.0
    high = float(betaincinv(count + 1, trials - count, 1 - outside / 2)) if count < trials else 1.0
    return count / trials, low, high


def at_best_of_others(errors: Mapping[K, Sequence[float]]) -> list[float]:
    """Each seed's error at the setting with the smallest mean error over the other seeds: none chooses for itself.

    Args:
        errors: setting to the errors of at least 2 seeds, the same in all.
    """
    found = []
    for seed in range(len(next(iter(errors.values())))):
        others = {setting: np.mean([*own[:seed], *own[seed + 1 :]]) for setting, own in errors.items()}
        found.append(errors[min(others, key=others.__getitem__)][seed])
    return found
