"""Kendall's tau-b over pairs of networks from different clusters, with the variance that drawing clusters gives it.

tau_b = Σ sᵢⱼ tᵢⱼ / sqrt(Σ sᵢⱼ² · Σ tᵢⱼ²),  s, t the signs of the differences in metric and target, 0 within a cluster:
how networks of one setting are ordered is noise, and says nothing of the metric.
Source: Kendall 1945 (tau-b); Hoeffding 1948 (variance of a mean over pairs).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.study.statistics.interval import interval, most_tied

Array = NDArray[np.float64]
Signs = NDArray[np.float32]  # sums of n² ones are exact below 2²⁴
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Tau:
    """tau-b, and how it deviates from pair to pair of clusters."""

    value: float  # NaN where metric or target is constant
    deviations: (
        Array  # (K, K) of zero mean off the diagonal, 0 on it; a first-order change of tau is their weighted mean
    )
    tied: float = 1.0  # clusters that share one value, see `interval`

    def __sub__(self, other: "Tau") -> "Tau":
        return Tau(self.value - other.value, self.deviations - other.deviations, max(self.tied, other.tied))

    def __neg__(self) -> "Tau":
        return Tau(-self.value, -self.deviations, self.tied)

    @property
    def variance(self) -> float:
        """Over draws of clusters: that of the clusters' own means, at least what single pairs leave beside them.

        V = max(K/(K−1) Σ ψ_k², 2 σ²/(K(K−1))),  ψ_k = 2/K times the mean deviation of cluster k, σ² = mean deviation².
        """
        count = len(self.deviations)
        if count < 2:
            return float("nan")
        pairs = count * (count - 1)
        means = 2 * self.deviations.sum(1) / pairs
        return float(max(count / (count - 1) * (means**2).sum(), 2 * (self.deviations**2).sum() / pairs**2))

    @property
    def interval(self) -> tuple[float, float]:
        """Both ends of the 95 % interval; NaN where there is none."""
        return interval(self.value, self.variance, len(self.deviations), self.tied)


def signs(x: Array, clusters: Codes | None = None) -> Signs:
    """sign(xᵢ − xⱼ), (n, n); 0 where either is NaN, and within a cluster."""
    found: Signs = np.nan_to_num(np.sign(x[:, None] - x[None, :])).astype(np.float32)
    return found if clusters is None else found * apart(clusters)


def apart(clusters: Codes) -> Signs:
    """1 where two networks are of different clusters, else 0, (n, n)."""
    return (clusters[:, None] != clusters[None, :]).astype(np.float32)


def tau_b(x: Array, y: Array, clusters: Codes) -> Tau:
    """Kendall's tau-b of finite x and y, (n,) each, over pairs from different clusters."""
    clusters = np.unique(clusters, return_inverse=True)[1]
    member = (clusters[:, None] == np.arange(clusters.max() + 1)).astype(np.float32)
    s, t = signs(x, clusters), signs(y, clusters)
    agreement, own, other = ((member.T @ part @ member).astype(np.float64) for part in (s * t, s * s, t * t))
    pairs = len(agreement) * (len(agreement) - 1)
    scale = np.sqrt(own.sum() * other.sum())
    if scale == 0:
        return Tau(float("nan"), np.zeros_like(agreement))
    value = agreement.sum() / scale
    deviations = pairs * (agreement / scale - value / 2 * (own / own.sum() + other / other.sum()))
    return Tau(float(value), deviations, most_tied(len(agreement), x, y))


def weighted_taus(s: Signs, t: Signs, weights: NDArray[Any]) -> Array:
    """tau-b for each row of weights, (B, n) to (B,); NaN where one side is constant.

    Args:
        s, t: signs of the differences, (n, n).
        weights: how often each network counts, such as the 0 and 1 of a group.
    """
    w = weights.astype(np.float32)
    agreement, norm_s, norm_t = (((w @ part) * w).sum(1, dtype=np.float64) for part in (s * t, s * s, t * t))
    return ratio(agreement, np.sqrt(norm_s * norm_t))


def ratio(a: Array, b: Array) -> Array:
    """a / b, NaN where b is 0."""
    return np.divide(a, b, out=np.full(np.shape(a), np.nan), where=b > 0)
