"""Does a metric follow the generalisation gap over many networks? Rank correlation with its uncertainty.

Kendall's tau-b counts pairs of networks that both order alike; the granulated psi looks only at pairs that differ in
one hyper-parameter, so that a metric is not credited with what that hyper-parameter does to both.
Source: Kendall 1945 (tau-b); Jiang et al. 2020, "Fantastic generalization measures", arXiv:1912.02178, section 4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.checks import require

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Correlation:
    """Rank correlation of one metric with the target."""

    tau: float  # Kendall's tau-b
    low: float  # 95 % interval, bootstrap over networks
    high: float
    psi: Mapping[str, float]  # hyper-parameter axis -> granulated tau; NaN where no two networks differ in it alone
    psi_mean: float  # over the axes that have one
    count: int  # networks with both numbers finite


def correlate(
    table: Sequence[Mapping[str, Any]],
    metric_columns: Sequence[str],
    target: str = "generalization_gap",
    axes: Sequence[str] = (),
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Correlation]:
    """Kendall's tau of each metric with the target, its bootstrap interval, and psi per hyper-parameter axis.

    Rows whose metric or target is not finite are left out for that metric and show in `count`. The interval is about
    the choice of networks; with many metrics tried on one table, the best interval is too narrow.

    Args:
        table: a row per network, column to value.
        metric_columns: columns to correlate with the target.
        target: the column to be predicted.
        axes: columns of hyper-parameters.
        resamples: bootstrap samples of the networks.
        seed: of the bootstrap.
    Returns:
        Metric to Correlation. Where a column is constant tau is NaN.
    Raises:
        ValueError: if a column is missing, or fewer than three networks have finite numbers.
    """
    for column in [*metric_columns, target, *axes]:
        missing = sum(column not in row for row in table)
        require(missing == 0, f"every row must have the column {column!r}, {missing} of {len(table)} have not")
    return {name: _correlation(table, name, target, axes, resamples, seed) for name in metric_columns}


def _correlation(
    table: Sequence[Mapping[str, Any]], metric: str, target: str, axes: Sequence[str], resamples: int, seed: int
) -> Correlation:
    rows = [row for row in table if np.isfinite(float(row[metric])) and np.isfinite(float(row[target]))]
    require(len(rows) >= 3, f"{metric}: at least 3 networks must have finite numbers, got {len(rows)}")
    x, y = (np.array([float(row[column]) for row in rows]) for column in (metric, target))
    draws = np.random.default_rng(seed).integers(len(rows), size=(resamples, len(rows)))
    taus = np.concatenate([_tau(x[part], y[part]) for part in np.array_split(draws, max(1, draws.size // 100_000))])
    low, high = np.nanpercentile(taus, [2.5, 97.5]) if np.isfinite(taus).any() else (np.nan, np.nan)
    psi = {axis: _granulated(rows, x, y, axis, axes) for axis in axes}
    known = [value for value in psi.values() if np.isfinite(value)]
    return Correlation(
        tau=float(_tau(x[None], y[None])[0]),
        low=float(low),
        high=float(high),
        psi=psi,
        psi_mean=float(np.mean(known)) if known else float("nan"),
        count=len(rows),
    )


def _tau(x: Array, y: Array) -> Array:
    """Kendall's tau-b of each row of x with that of y, (n, k) to (n,); NaN where one is constant."""
    dx, dy = (np.sign(v[:, :, None] - v[:, None, :]) for v in (x, y))
    agreement, norm = (dx * dy).sum((1, 2)), np.sqrt((dx**2).sum((1, 2)) * (dy**2).sum((1, 2)))
    return np.divide(agreement, norm, out=np.full(len(x), np.nan), where=norm > 0)


def _granulated(rows: Sequence[Mapping[str, Any]], x: Array, y: Array, axis: str, axes: Sequence[str]) -> float:
    """Mean of tau over the groups of networks that agree in every axis but one."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(tuple(row[other] for other in axes if other != axis), []).append(index)
    taus = [_tau(x[None, group], y[None, group])[0] for group in groups.values() if len(group) > 1]
    finite = [tau for tau in taus if np.isfinite(tau)]
    return float(np.mean(finite)) if finite else float("nan")
