"""The best of a family of variants without looking at the gap that judges it: choose on one half, measure on the other.

The variant of the largest |tau| on all networks is picked for its luck too. Here it is picked on half of the clusters
and its tau is that on the other half, over many halvings; pairs of networks of one cluster do not count.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from landscape.checks import integer_in, require
from landscape.storage.results.shown import Lines, Shown
from landscape.study.statistics.kendall import signs, weighted_taus
from landscape.study.statistics.resampling import Frame, Rows, codes, rows_of


@dataclass(frozen=True, repr=False)
class NestedSelection(Shown):
    """What selecting a variant by its tau is worth."""

    tau: float  # mean over the halvings, on the half that did not choose
    low: float  # middle 95 % of the halvings: they overlap, so this is their spread and no confidence interval
    high: float
    chosen: Mapping[str, float]  # variant -> share of the halvings that chose it, the most frequent first
    best: str  # the variant of the largest |tau| on all networks
    best_tau: float  # which is what a report without a second half would say

    def _facts(self) -> dict[str, Any]:
        held_out = f"{self.tau:+.2f}, middle 95 % of halvings {self.low:+.2f} to {self.high:+.2f}"
        return {"tau": held_out, "best": f"{self.best} ({self.best_tau:+.2f} on all networks)"}

    def _preview(self) -> Lines:
        return [("variant", "chosen in"), *((name, f"{share:.0%}") for name, share in self.chosen.items())]


def nested_selection(
    table: Rows | Frame,
    variants: Sequence[str],
    target: str = "generalization_gap",
    *,
    cluster: Sequence[str] = (),
    halvings: int = 200,
    seed: int = 0,
) -> NestedSelection:
    """Choose among variants of a metric (its order, layer, radius) on half of the networks, judge on the other half.

    Args:
        table: a row per network, column to value, or a data frame.
        variants: columns, among which the largest |tau| chooses.
        target: the column to be predicted.
        cluster: columns; networks that agree in all of them stay in one half.
        halvings: random halves.
        seed: of the halves.
    Raises:
        ValueError: if fewer than two variants are given, or fewer than four clusters have finite numbers.
    """
    require(len(variants) >= 2, f"variants must hold at least two columns to choose from, got {len(variants)}")
    integer_in("halvings", halvings, 1)
    rows = [row for row in rows_of(table) if all(np.isfinite(float(row[name])) for name in (*variants, target))]
    clusters = codes(rows, cluster)
    count = int(clusters.max(initial=-1)) + 1
    require(count >= 4, f"at least 4 clusters must have finite numbers in all variants, got {count}")
    gap, *family = (signs(np.array([float(row[name]) for row in rows]), clusters) for name in (target, *variants))
    random = np.random.default_rng(seed)
    halves = np.stack([np.isin(clusters, random.permutation(count)[: count // 2]) for _ in range(halvings)])
    choosing, judging, whole = (
        np.stack([weighted_taus(variant, gap, part) for variant in family])
        for part in (halves, ~halves, np.ones((1, len(rows))))
    )  # (variants, halvings) each
    picks, best = (np.nan_to_num(np.abs(taus)).argmax(0) for taus in (choosing, whole))
    taus = judging[picks, np.arange(halvings)]
    low, high = np.nanpercentile(taus, [2.5, 97.5]) if np.isfinite(taus).mean() >= 0.95 else (np.nan, np.nan)
    shares = Counter(variants[pick] for pick in picks).most_common()
    return NestedSelection(
        tau=float(np.nanmean(taus)) if np.isfinite(taus).any() else float("nan"),
        low=float(low),
        high=float(high),
        chosen={name: times / halvings for name, times in shares},
        best=variants[best[0]],
        best_tau=float(whole[best[0], 0]),
    )
