"""Does a metric follow the generalisation gap over many networks? Rank correlation with its uncertainty.

Kendall's tau-b counts pairs of networks that both order alike; the granulated psi looks only at pairs that differ in
one hyper-parameter, so that a metric is not credited with what that hyper-parameter does to both.
Source: Kendall 1945 (tau-b); Jiang et al. 2020, "Fantastic generalization measures", arXiv:1912.02178, section 2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.checks import integer_in, require
from landscape.study.statistics.kendall import Array, Signs, signs, tau_b, weighted_taus
from landscape.study.statistics.mutual_information import conditional_information
from landscape.study.statistics.partial import partial_correlations
from landscape.study.statistics.permutation import permutation_p
from landscape.study.statistics.resampling import Codes, Rows, bootstrap, codes, permutations
from landscape.study.statistics.sign_error import robust_sign_error

NONE = float("nan")


@dataclass(frozen=True)
class Correlation:
    """Rank correlation of one metric with the target. NaN stands for what is not defined."""

    tau: float  # Kendall's tau-b
    low: float  # 95 % interval, bootstrap over clusters of networks
    high: float
    psi: Mapping[str, float]  # hyper-parameter axis -> granulated tau; NaN where no two networks differ in it alone
    psi_mean: float  # over the axes that have one; not over the seed, where `cluster` leaves it out
    count: int  # networks with both numbers finite
    clusters: int  # what the bootstrap draws; as many as networks where each is taken for independent
    information: float  # K: conditional mutual information over any two axes
    sign_error: float  # robust: in the worst change of one hyper-parameter; 0.5 is chance
    partial: float  # Spearman's correlation given another column
    partial_low: float  # NaN, as partial_high, where the networks leave it open
    partial_high: float
    p: float  # permutation test of tau
    p_corrected: float  # for all metrics of the call


@dataclass(frozen=True)
class _Sample:
    """The networks with a finite target, and what is drawn of them once for all metrics."""

    y: Array  # (n,)
    clusters: Codes
    axes: Mapping[str, Codes]
    weights: NDArray[np.int64]  # (resamples, n)


def correlate(
    table: Rows,
    metric_columns: Sequence[str],
    target: str = "generalization_gap",
    axes: Sequence[str] = (),
    *,
    cluster: Sequence[str] = (),
    given: str | None = None,
    test_samples: int | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Correlation]:
    """Kendall's tau of each metric with the target, how far it can be trusted, and what hyper-parameters explain of it.

    Rows whose metric or target is not finite are left out for that metric and show in `count`. Each interval is about
    one metric; for the best of many look at `p_corrected`.

    Args:
        table: a row per network, column to value.
        metric_columns: columns to correlate with the target.
        target: the column to be predicted.
        axes: columns of hyper-parameters.
        cluster: columns; networks that agree in all of them are drawn and exchanged together. Give all axes but the
            seed: networks that differ by the seed alone are no independent evidence. Default: all are independent.
        given: column held fixed in `partial`, such as "train_loss".
        test_samples: where the target is a gap in error, in [0, 1]: the size of the test set, from which
            `sign_error` knows which pairs are resolved; default: every pair counts.
        resamples: bootstrap samples, and permutations.
        seed: of both.
    Returns:
        Metric to Correlation.
    Raises:
        ValueError: if a column is missing, or fewer than three networks have finite numbers.
    """
    for column in [*metric_columns, target, *axes, *cluster, *([given] if given else [])]:
        missing = sum(column not in row for row in table)
        require(missing == 0, f"every row must have the column {column!r}, {missing} of {len(table)} have not")
    integer_in("resamples", resamples, 1)
    rows = [row for row in table if np.isfinite(float(row[target]))]
    metrics = np.array([[_finite(row[name]) for row in rows] for name in metric_columns])
    for name, values in zip(metric_columns, metrics, strict=True):
        count = int(np.isfinite(values).sum())
        require(count >= 3, f"{name}: at least 3 networks must have finite numbers, got {count}")
    clusters = codes(rows, cluster)
    sample = _Sample(
        _column(rows, target),
        clusters,
        {axis: codes(rows, [axis]) for axis in axes},
        bootstrap(clusters, resamples, seed),
    )
    alone, corrected = permutation_p(metrics, sample.y, permutations(clusters, resamples, seed))
    changed = [index for index, axis in enumerate(axes) if not cluster or axis in cluster]
    held = _column(rows, given) if given else np.full(len(rows), NONE)
    found = {}
    for index, name in enumerate(metric_columns):
        found[name] = Correlation(
            **_trusted(metrics[index], sample),
            **_explained(metrics[index], sample, changed, test_samples),
            **_given(metrics[index], held, sample),
            p=float(alone[index]),
            p_corrected=float(corrected[index]),
        )
    return found


def _trusted(x: Array, sample: _Sample) -> dict[str, Any]:
    """tau with its interval, and how many networks it rests on."""
    known = np.isfinite(x)
    own, y = x[known], sample.y[known]
    low, high = interval(weighted_taus(signs(own), signs(y), sample.weights[:, known]))
    counts = {"count": int(known.sum()), "clusters": len(np.unique(sample.clusters[known]))}
    return {"tau": tau_b(own, y), "low": low, "high": high, **counts}


def _explained(x: Array, sample: _Sample, changed: Sequence[int], test_samples: int | None) -> dict[str, Any]:
    """What is left of the correlation beyond hyper-parameters."""
    known = np.isfinite(x)
    s, y = signs(x[known]), sample.y[known]
    axes = {name: axis[known] for name, axis in sample.axes.items()}
    psi = {name: _granulated(s, signs(y), [axes[other] for other in axes if other != name]) for name in axes}
    values = list(psi.values())
    defined = [values[axis] for axis in changed if np.isfinite(values[axis])]
    return {
        "psi": psi,
        "psi_mean": float(np.mean(defined)) if defined else NONE,
        "information": conditional_information(s, signs(y), list(axes.values())),
        "sign_error": robust_sign_error(s, y, list(axes.values()), changed, test_samples),
    }


def _given(x: Array, z: Array, sample: _Sample) -> dict[str, Any]:
    """Spearman's correlation given z, with its interval."""
    known = np.isfinite(x) & np.isfinite(z)
    if not known.any():
        return {"partial": NONE, "partial_low": NONE, "partial_high": NONE}
    three = x[known], sample.y[known], z[known]
    value = float(partial_correlations(*three, np.ones((1, int(known.sum()))))[0])
    weights = sample.weights[:, known]
    low, high = interval(partial_correlations(*three, weights[weights.sum(1) > 0]))
    return {"partial": value, "partial_low": low, "partial_high": high}


def _granulated(s: Signs, t: Signs, others: Sequence[Codes]) -> float:
    """Mean of tau over the groups of networks that agree in all other axes."""
    cells = np.stack([np.zeros(len(s), dtype=np.int64), *others])
    group = np.unique(cells, axis=1, return_inverse=True)[1]
    taus = weighted_taus(s, t, np.arange(group.max() + 1)[:, None] == group[None, :])
    finite = taus[np.isfinite(taus)]
    return float(finite.mean()) if len(finite) else NONE


def interval(draws: Array) -> tuple[float, float]:
    """The middle 95 % of the draws; NaN where more than 5 % are undefined: the others are a choice among them."""
    if np.isfinite(draws).mean() < 0.95:
        return NONE, NONE
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return float(low), float(high)


def _column(rows: Rows, name: str) -> Array:
    return np.array([_finite(row[name]) for row in rows])


def _finite(value: Any) -> float:
    """A number, NaN for what is none or not finite."""
    return float(value) if np.isfinite(float(value)) else NONE
