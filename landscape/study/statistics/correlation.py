"""Does a metric follow the generalisation gap over many networks? Rank correlation with its uncertainty.

Kendall's tau-b counts pairs of networks that both order alike; the granulated psi looks only at pairs that differ in
one hyper-parameter, so that a metric is not credited with what that hyper-parameter does to both. Pairs of networks of
one cluster count nowhere: seeds order them. What has no obvious chance level has that of exchanged gaps beside it.
Source: Kendall 1945 (tau-b); Jiang et al. 2020, "Fantastic generalization measures", arXiv:1912.02178, section 2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import isfinite
from typing import Any

import numpy as np

from landscape.checks import integer_in, require
from landscape.storage.results.shown import Drawn, Lines, Table
from landscape.study.statistics.interval import ROUGH
from landscape.study.statistics.kendall import Array, Codes, Signs, apart, signs, tau_b
from landscape.study.statistics.mutual_information import conditional_information
from landscape.study.statistics.partial import partial_interval
from landscape.study.statistics.permutation import permutation_p
from landscape.study.statistics.resampling import Frame, Rows, codes, permutations, rows_of
from landscape.study.statistics.sign_error import Environments, environments, robust_sign_error

NONE = float("nan")
EXCHANGES, FEW = 200, 5  # of the gaps, for the chance level of the sign error, and of K, which hardly varies


@dataclass(frozen=True, repr=False)
class Correlation(Drawn):
    """Rank correlation of one metric with the target. NaN stands for what is not defined."""

    tau: float  # Kendall's tau-b over pairs of networks from different clusters; 0 by chance
    low: float  # 95 % interval over clusters; NaN where fewer than 3 are, or ties leave nothing to tell it from
    high: float
    psi: Mapping[str, float]  # axis -> granulated tau, ties as 0; NaN where no pair that counts differs in it alone
    psi_mean: float  # over the axes that have one; 0 by chance
    count: int  # networks with both numbers finite
    clusters: int  # of them; as many as networks where each is taken for independent
    information: float  # K: conditional mutual information over any two axes
    sign_error: float  # robust: in the worst change of one hyper-parameter; NaN where none has pairs enough
    partial: float  # Spearman's correlation given another column; about 0 by chance
    partial_low: float  # NaN, as partial_high, where the networks leave it open
    partial_high: float
    p: float  # permutation test of tau
    p_corrected: float  # for all metrics of the call
    rough: bool = False  # fewer than 8 clusters: both intervals hold the truth in 88 % of tables or more, not in 95 %
    information_null: float = NONE  # K that exchanged gaps give, on average
    sign_error_chance: float = NONE  # the sign error that exchanged gaps give, on average
    sign_error_null_low: float = NONE  # the middle 90 % of it: a metric that orders better than chance is below
    sign_error_null_high: float = NONE

    def _facts(self) -> dict[str, Any]:
        ends = f"[{self.low:+.2f}, {self.high:+.2f}]{' rough' * self.rough}" if isfinite(self.low) else "no interval"
        counts = {"networks": self.count, "clusters": self.clusters}
        return {"tau": f"{self.tau:+.2f} {ends}", "p_corrected": self.p_corrected, "psi_mean": self.psi_mean, **counts}


class Correlations(Table, dict[str, Correlation]):
    """Metric to Correlation, as a table with a row a metric."""

    def _facts(self) -> dict[str, Any]:
        return {"metrics": len(self)}

    def _columns(self) -> dict[str, list[Any]]:
        axes = dict.fromkeys(axis for own in self.values() for axis in own.psi)
        names = [each.name for each in fields(Correlation) if each.name != "psi"]
        columns = {name: [getattr(own, name) for own in self.values()] for name in names}
        psi = {f"psi_{axis}": [own.psi.get(axis, NONE) for own in self.values()] for axis in axes}
        return {"metric": list(self), **columns, **psi}

    def _preview(self) -> Lines:
        """What decides of each, the strongest first."""
        order = sorted(self, key=lambda name: -abs(self[name].tau) if isfinite(self[name].tau) else 1.0)
        told = [dict(self[name]._told()) for name in order]
        head = list(dict.fromkeys(key for facts in told for key in facts))
        rows = [(name, *(facts.get(key, "") for key in head)) for name, facts in zip(order, told, strict=True)]
        return [("metric", *head), *rows]


@dataclass(frozen=True)
class _Sample:
    """The networks with a finite target, and what serves all metrics."""

    y: Array  # (n,)
    clusters: Codes
    axes: Mapping[str, Codes]
    changed: Sequence[str]  # axes that one changes: not the seed, where clusters leave it out
    among: Environments
    dealt: Array  # (B, n) exchanged targets
    test_samples: int | None


def correlate(
    table: Rows | Frame,
    metric_columns: Sequence[str],
    target: str = "generalization_gap",
    axes: Sequence[str] = (),
    *,
    cluster: Sequence[str] = (),
    given: str | None = None,
    test_samples: int | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Correlations:
    """Kendall's tau of each metric with the target, how far it can be trusted, and what hyper-parameters explain of it.

    Rows whose metric or target is not finite are left out for that metric and show in `count`. Each interval is about
    one metric; for the best of many look at `p_corrected`.

    Args:
        table: a row per network, column to value, or a data frame.
        metric_columns: columns to correlate with the target.
        target: the column to be predicted.
        axes: columns of hyper-parameters.
        cluster: columns; networks that agree in all of them are one piece of evidence: pairs of them do not count, and
            they are exchanged together. Give all axes but the seed. Default: each network stands for itself.
        given: column held fixed in `partial`, such as "train_loss".
        test_samples: where the target is a gap in error, in [0, 1]: the size of the test set, from which
            `sign_error` knows which pairs are resolved; default: every pair counts.
        resamples: permutations of the targets, for p and for what chance gives.
        seed: of the permutations.
    Returns:
        Metric to Correlation, which shows itself as a table, also by `to_frame`.
    Raises:
        ValueError: if a column is missing, or fewer than three networks have finite numbers.
    """
    table = rows_of(table)
    for column in [*metric_columns, target, *axes, *cluster, *([given] if given else [])]:
        missing = sum(column not in row for row in table)
        require(missing == 0, f"every row must have the column {column!r}, {missing} of {len(table)} have not")
    integer_in("resamples", resamples, 1)
    rows = [row for row in table if np.isfinite(float(row[target]))]
    metrics = np.array([_metric(rows, name) for name in metric_columns])
    clusters = codes(rows, cluster)
    orders = permutations(clusters, resamples, seed)
    by_axis = {axis: codes(rows, [axis]) for axis in axes}
    changed = [axis for axis in axes if not cluster or axis in cluster]
    y = _column(rows, target)
    among = environments([by_axis[axis] for axis in changed], len(rows))
    sample = _Sample(y, clusters, by_axis, changed, among, y[orders[:EXCHANGES]], test_samples)
    alone, corrected = permutation_p(metrics, y, orders, clusters)
    held = _column(rows, given) if given else np.full(len(rows), NONE)
    judged = [_judged(own, held, sample) for own in metrics]
    found = zip(metric_columns, judged, alone, corrected, strict=True)
    return Correlations({name: Correlation(**own, p=float(p), p_corrected=float(each)) for name, own, p, each in found})


def _judged(x: Array, z: Array, sample: _Sample) -> dict[str, Any]:
    return _trusted(x, sample) | _explained(x, sample) | _worst(x, sample) | _given(x, z, sample)


def _metric(rows: Rows, name: str) -> Array:
    values = np.array([_finite(row[name]) for row in rows])
    count = int(np.isfinite(values).sum())
    require(count >= 3, f"{name}: at least 3 networks must have finite numbers, got {count}")
    return values


def _trusted(x: Array, sample: _Sample) -> dict[str, Any]:
    """tau with its interval, and how many networks it rests on."""
    known = np.isfinite(x)
    found = tau_b(x[known], sample.y[known], sample.clusters[known])
    clusters = len(found.deviations)
    low, high = found.interval
    counts = {"count": int(known.sum()), "clusters": clusters, "rough": clusters < ROUGH}
    return {"tau": found.value, "low": low, "high": high, **counts}


def _explained(x: Array, sample: _Sample) -> dict[str, Any]:
    """What is left of the correlation beyond hyper-parameters."""
    known = np.isfinite(x)
    clusters = sample.clusters[known]
    s, *gaps = (signs(each[known], clusters) for each in (x, sample.y, *sample.dealt[:FEW]))
    axes = {name: axis[known] for name, axis in sample.axes.items()}
    psi = {name: granulated(s * gaps[0], [axes[other] for other in axes if other != name], clusters) for name in axes}
    defined = [psi[axis] for axis in sample.changed if np.isfinite(psi[axis])]
    own, *null = conditional_information(s, gaps, list(axes.values()), clusters)
    return {
        "psi": psi,
        "psi_mean": float(np.mean(defined)) if defined else NONE,
        "information": float(own),
        "information_null": float(np.mean(null)),
    }


def granulated(agreement: Signs, others: Sequence[Codes], clusters: Codes) -> float:
    """Mean over the groups of networks that agree in all other axes of Σ sᵢⱼ tᵢⱼ / pairs: what is tied counts as 0.

    Args:
        agreement: s t, (n, n).
        others: of each other axis, the number of the value that each network has, (n,).
        clusters: of each network; a group whose networks are all of one has no pairs and does not count.
    """
    cells = np.stack([np.zeros(len(clusters), dtype=np.int64), *others])
    group = np.unique(cells, axis=1, return_inverse=True)[1]
    member = (np.arange(group.max() + 1)[:, None] == group[None, :]).astype(np.float32)
    agreed, pairs = (((member @ part) * member).sum(1, dtype=np.float64) for part in (agreement, apart(clusters)))
    return float(np.mean(agreed[pairs > 0] / pairs[pairs > 0])) if (pairs > 0).any() else NONE


def _worst(x: Array, sample: _Sample) -> dict[str, Any]:
    """The robust sign error, and what exchanged targets give."""
    own, *null = robust_sign_error(x, np.vstack([sample.y, sample.dealt]), sample.among, sample.test_samples)
    finite = np.array(null)[np.isfinite(null)]
    if not np.isfinite(own) or not len(finite):
        return {"sign_error": float(own)}
    low, high = np.percentile(finite, [5, 95])
    return {
        "sign_error": float(own),
        "sign_error_chance": float(finite.mean()),
        "sign_error_null_low": float(low),
        "sign_error_null_high": float(high),
    }


def _given(x: Array, z: Array, sample: _Sample) -> dict[str, Any]:
    """Spearman's correlation given z, with its interval."""
    known = np.isfinite(x) & np.isfinite(z)
    if not known.any():
        return {"partial": NONE, "partial_low": NONE, "partial_high": NONE}
    value, low, high = partial_interval(x[known], sample.y[known], z[known], sample.clusters[known])
    return {"partial": value, "partial_low": low, "partial_high": high}


def _column(rows: Rows, name: str) -> Array:
    return np.array([_finite(row[name]) for row in rows])


def _finite(value: Any) -> float:
    """A number, NaN for what is none or not finite."""
    return float(value) if np.isfinite(float(value)) else NONE
