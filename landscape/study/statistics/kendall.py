"""Kendall's tau-b as a bilinear form in the weights of the networks: thousands of resamples are two matrix products.

tau_b = Σ wᵢwⱼ sᵢⱼ tᵢⱼ / sqrt(Σ wᵢwⱼ sᵢⱼ² · Σ wᵢwⱼ tᵢⱼ²),  s, t the signs of the differences in metric and target.
Source: Kendall 1945 (tau-b).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Signs = NDArray[np.float32]  # sums of n² ones are exact below 2²⁴


def signs(x: Array) -> Signs:
    """sign(xᵢ − xⱼ), (n, n); 0 where either is NaN."""
    found: Signs = np.nan_to_num(np.sign(x[:, None] - x[None, :])).astype(np.float32)
    return found


def tau_b(x: Array, y: Array) -> float:
    """Kendall's tau-b of finite x and y, (n,) each; NaN where one is constant."""
    return float(weighted_taus(signs(x), signs(y), np.ones((1, len(x))))[0])


def weighted_taus(s: Signs, t: Signs, weights: NDArray[Any]) -> Array:
    """tau-b for each row of weights, (B, n) to (B,); NaN where one side is constant.

    Args:
        s, t: signs of the differences, (n, n).
        weights: how often each network counts: a bootstrap sample's counts, or the 0 and 1 of a group.
    """
    w = weights.astype(np.float32)
    agreement, norm_s, norm_t = (((w @ part) * w).sum(1, dtype=np.float64) for part in (s * t, s * s, t * t))
    return ratio(agreement, np.sqrt(norm_s * norm_t))


def ratio(a: Array, b: Array) -> Array:
    """a / b, NaN where b is 0."""
    return np.divide(a, b, out=np.full(np.shape(a), np.nan), where=b > 0)
