"""95 % intervals of tau over clusters of networks: the one that `correlate` uses, and those that it was held against.

Source: Efron and Tibshirani 1993, "An introduction to the bootstrap", chapters 12 to 14; Hoeffding 1948.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from landscape.study.statistics.interval import quantile
from landscape.study.statistics.kendall import signs, tau_b

Array = NDArray[np.float64]
OURS, BEFORE = "Hoeffding's variance, t, arcsine (used)", "percentile, pairs of a setting kept (before)"


def candidates(x: Array, y: Array, clusters: NDArray[np.int64], drawn: Array) -> dict[str, tuple[float, float]]:
    """Every interval of one table.

    Args:
        x, y: (n,) each.
        clusters: the setting of each network, (n,).
        drawn: how often each setting is in each bootstrap sample, (B, K).
    """
    tau, count = tau_b(x, y, clusters), len(drawn[0])
    member = (clusters[:, None] == np.arange(count)).astype(float)
    s, t = signs(x).astype(float), signs(y).astype(float)
    whole = np.stack([member.T @ part @ member for part in (s * t, s * s, t * t)])
    between = whole * (1 - np.eye(count))
    draws, spread = bootstrapped(between, drawn)
    without = bootstrapped(between, 1 - np.eye(count))[0]
    centre, slope = np.arctanh(clipped(tau.value, count)), 1 / (1 - clipped(tau.value, count) ** 2)
    error = slope * tau.variance**0.5
    pivots = (np.arctanh(clipped(draws, count)) - centre) / np.maximum(spread / (1 - clipped(draws, count) ** 2), 1e-9)
    low, high = percentiles(pivots)
    left = np.arctanh(clipped(without, count))
    jackknife = ((count - 1) / count * ((left - left.mean()) ** 2).sum()) ** 0.5
    return {
        OURS: tau.interval,
        BEFORE: percentiles(bootstrapped(whole, drawn)[0]),
        "percentile": percentiles(draws),
        "BCa": corrected(tau.value, draws, without),
        "studentised bootstrap, Fisher's z": (np.tanh(centre - high * error), np.tanh(centre - low * error)),
        "jackknife, t, Fisher's z": around(centre, jackknife, count),
        "Hoeffding's variance, t, Fisher's z": around(centre, error, count),
    }


def bootstrapped(sums: Array, drawn: Array) -> tuple[Array, Array]:
    """tau-b of each draw of clusters, and its standard error by Hoeffding's projection, (B,) each."""
    count = drawn.shape[1]
    rows = drawn @ sums  # (3, B, K)
    agreement, own, other = (rows * drawn).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):  # a draw of one cluster alone has no pairs
        taus = agreement / np.sqrt(own * other)
        shares = [rows[0].T / np.sqrt(own * other), taus / 2 * rows[1].T / own, taus / 2 * rows[2].T / other]
    means = shares[0] - shares[1] - shares[2]
    return taus, np.sqrt(4 * count / (count - 1) * (drawn.T * means**2).sum(0))


def percentiles(draws: Array) -> tuple[float, float]:
    """The middle 95 %."""
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return float(low), float(high)


def clipped(tau: Any, count: int) -> Any:
    """Half of a pair of clusters away from ±1, where Fisher's z is infinite."""
    edge = 1 - 1 / (count * (count - 1))
    return np.clip(tau, -edge, edge)


def around(centre: float, error: float, count: int) -> tuple[float, float]:
    """Student's t on Fisher's z."""
    return float(np.tanh(centre - quantile(count) * error)), float(np.tanh(centre + quantile(count) * error))


def corrected(tau: float, draws: Array, without: Array) -> tuple[float, float]:
    """Efron's bias-corrected and accelerated percentiles."""
    draws = np.sort(draws[np.isfinite(draws)])
    below = np.clip(((draws < tau).mean() + (draws <= tau).mean()) / 2, 1 / len(draws), 1 - 1 / len(draws))
    bias, moved = norm.ppf(below), without.mean() - without
    power = (moved**2).sum() ** 1.5
    acceleration = (moved**3).sum() / (6 * power) if power > 0 else 0.0
    ends = bias + norm.ppf([0.025, 0.975])
    low, high = np.quantile(draws, norm.cdf(bias + ends / (1 - acceleration * ends)))
    return float(low), float(high)
