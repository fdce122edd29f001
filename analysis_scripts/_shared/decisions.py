"""Verdicts of claims that are no sign of a difference: that a number has a value, that a share of trials is high."""

from collections.abc import Iterable

from scipy.stats import beta

Interval = tuple[float, float, float]


def lies_in(found: Iterable[float], low: float, high: float) -> str:
    """Of a claim that a number lies in [low, high]; its interval (mean, lower, upper end) must not straddle a bound."""
    _, lower, upper = found
    if low <= lower and upper <= high:
        return "agrees"
    return "differs" if upper < low or lower > high else "cannot say"


def share(count: int, trials: int, outside: float = 0.05) -> Interval:
    """The share of trials with its interval of Clopper and Pearson."""
    low = float(beta.ppf(outside / 2, count, trials - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - outside / 2, count + 1, trials - count)) if count < trials else 1.0
    return count / trials, low, high


def said(found: Iterable[float], digits: int = 2) -> str:
    """A mean and its interval: "0.99 [0.95, 1.03]"."""
    mean, low, high = (f"{value:.{digits}f}" for value in found)
    return f"{mean} [{low}, {high}]"
