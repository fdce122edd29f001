"""All that the page of a study says is drawn from here: the table, and each metric's correlation with the gap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

import numpy as np

from landscape.checks import require
from landscape.study import Correlation, NestedSelection, correlate, level_with, nested_selection
from landscape.study.study_runner import GAPS, StudyConfig, broken, costs_alone, metrics_of, table

TARGET, IN_ERROR, *NOISY = GAPS
TRAIN_LOSS = "train_loss"  # a metric among the metrics: what it tells, any of them may tell
SURE = 0.05  # of a corrected p
FEWEST = 3  # networks of a correlation
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Evidence:
    """A study that has run, judged."""

    rows: Rows
    axes: Sequence[str]  # columns in which the networks differ
    cluster: Sequence[str]  # those but the seed
    correlations: Mapping[str, Correlation]  # metric -> with the gap in loss
    in_error: Mapping[str, Correlation]  # with the gap in error; empty where accuracies are not known
    level: Sequence[str]  # metrics that the data cannot tell from the best
    selections: Mapping[str, NestedSelection]  # family -> its best variant, chosen on other networks
    broken: Mapping[str, str]  # network that failed -> why
    costs: Mapping[str, float]  # metric -> gradient-times a network, alone, with what it shares with others
    test_samples: int | None = None  # of the smallest test set, which weighs the pairs of the sign error
    rare: Sequence[str] = ()  # metrics that too few networks have
    noisy: Mapping[str, Mapping[str, Correlation]] = field(default_factory=dict)  # gap to noisy test labels -> as above
    held: float = 0.0  # the training loss at which all networks were stopped; 0: none

    @property
    def open(self) -> dict[str, int]:
        """Metric to the number of networks on which its iteration did not converge."""
        return {name: sum(row.get(f"{name}_converged") is False for row in self.rows) for name in self.correlations}

    @property
    def best(self) -> str:
        """The metric of the largest |tau|."""
        return max(self.correlations, key=lambda name: np.nan_to_num(abs(self.correlations[name].tau)))

    @property
    def clear(self) -> list[str]:
        """Metrics that follow the gap: corrected p below 0.05 and an interval without 0, the largest |tau| first."""
        found = [
            name for name, own in self.correlations.items() if own.p_corrected < SURE and (own.low > 0 or own.high < 0)
        ]
        return sorted(found, key=lambda name: -abs(self.correlations[name].tau))

    @property
    def order(self) -> list[str]:
        """The metrics by what they tell of the gap where the training loss is held, the most first.

        Those without an interval come last.
        """

        def told(name: str) -> float:
            own = self.correlations[name]
            value, low = (own.tau, own.low) if self.held else (own.partial, own.partial_low)
            return abs(value) if isfinite(value) and isfinite(low) else -1.0

        return sorted(self.correlations, key=told, reverse=True)

    def follows(self, found: Correlation) -> int:
        """1: it rises with the gap where the training loss is held, −1: it falls, 0: it cannot be told.

        Held by training: by tau, as in `clear`; else by the interval of the correlation given the training loss.
        """
        low, high = (found.low, found.high) if self.held else (found.partial_low, found.partial_high)
        sure = not self.held or found.p_corrected < SURE
        return sure * ((low > 0) - (high < 0))

    @property
    def judged_sign_error(self) -> Mapping[str, Correlation]:
        """Where the sign error is read off: on the gap in error, whose noise is known, where there is one."""
        return self.in_error or self.correlations

    @property
    def group(self) -> str:
        """The column that colours tell apart: kinds of network, the rule, or else the first in which they differ."""
        return next((axis for axis in ("network", "rule", *self.axes) if axis in self.rows[0]), "")


def gather(config: StudyConfig) -> Evidence:
    """Table and correlations of a study that has run.

    Raises:
        ValueError: if fewer than three networks came through, or results are missing.
    """
    rows = table(config)
    finite = {name: sum(isfinite(row[name]) for row in rows) for name in metrics_of(rows)}
    metrics = [name for name, count in finite.items() if count >= FEWEST]
    require(
        len(metrics) > 0,
        f"a metric must be finite on at least {FEWEST} networks, got {len(rows)} networks and at most "
        f"{max(finite.values(), default=0)}; see why the others failed in broken.json, or add networks",
    )
    metrics.append(TRAIN_LOSS)
    cluster = config.cluster
    samples = [row["test_samples"] for row in rows if np.isfinite(row.get("test_samples", np.nan))]
    smallest = int(min(samples)) if samples else None

    def with_gap(gap: str) -> dict[str, Correlation]:
        size = smallest if gap.endswith(IN_ERROR) else None
        return correlate(rows, metrics, gap, config.axes, cluster=cluster, given=TRAIN_LOSS, test_samples=size)

    found = {gap: with_gap(gap) for gap in _told_apart(rows)}
    evidence = Evidence(
        rows=rows,
        axes=config.axes,
        cluster=cluster,
        correlations=found[TARGET],
        in_error=found.get(IN_ERROR, {}),
        level=(),
        selections={
            family: nested_selection(rows, variants, TARGET, cluster=cluster)
            for family, variants in config.families.items()
        },
        broken=broken(config),
        costs={TRAIN_LOSS: 0.0, **costs_alone(config)},
        test_samples=smallest,
        rare=[name for name in finite if name not in metrics],
        noisy={gap: found[gap] for gap in NOISY if gap in found},
        held=_one_loss(config),
    )
    correlations = evidence.correlations
    others = [name for name in metrics if name != evidence.best and np.isfinite(correlations[name].tau)]
    return replace(evidence, level=level_with(rows, evidence.best, others, TARGET, cluster=cluster))


def _told_apart(rows: Rows) -> list[str]:
    """The gaps that all networks have; to noisy test labels where these are noisy."""
    known = [gap for gap in GAPS if all(np.isfinite(row.get(gap, np.nan)) for row in rows)]
    same = [gap for gap in NOISY if all(row.get(gap) == row.get(gap.removeprefix("noisy_")) for row in rows)]
    return [gap for gap in known if gap not in same]


def _one_loss(config: StudyConfig) -> float:
    """The training loss at which all networks of a study were to stop; 0 where there is none."""
    losses = {network.settings().get("stop_at_loss", 0.0) for network in config.members.values()}
    return float(losses.pop()) if len(losses) == 1 else 0.0
