"""The figures of metrics against the gap: tau, what is left of it, scatter, psi and ranks."""

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from textwrap import fill
from types import SimpleNamespace
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from landscape.plots import plot_metric_against_gap, plot_psi, plot_ranks, plot_tau_forest
from landscape.plots.style import SMALL, words
from landscape.report.evidence import TRAIN_LOSS, Evidence
from landscape.report.panels import panels
from landscape.report.wording import SHOWN, most, tau

MANY = 12  # metrics: beyond, panels are small and files kept small
WIDE = 20  # letters under a small panel: the longest names take two lines


class Drawn(NamedTuple):
    """A figure with its words."""

    stem: str  # name of the file
    title: str
    caption: str
    alt: str  # what it shows, for those who do not see it
    figure: Figure


def forest(evidence: Evidence) -> Drawn:
    """Kendall's tau of each metric."""
    correlations = evidence.correlations
    count = max(found.clusters for found in correlations.values())
    over = f"{count} settings" if count < len(evidence.rows) else "networks"
    rough = " Dashed: rough, of fewer than 8 settings." if any(own.rough for own in correlations.values()) else ""
    caption = (
        f"Kendall's tau of each metric, and of the training loss, with the generalisation gap over "
        f"{len(evidence.rows)} networks; bars are 95 % intervals over {over}; chance is 0, and the band is the "
        f"interval of the training loss, of either sign: what is to be beaten.{rough} A full mark with a "
        f"star: p below 0.05 by permutation, corrected for all {len(correlations)} metrics. An interval that holds 0 "
        "is compatible with no relation."
    )
    reference = TRAIN_LOSS if TRAIN_LOSS in correlations else None
    figure = _figure_of(plot_tau_forest(correlations, reference=reference))
    values = {name: own.tau for name, own in correlations.items()}
    alt = f"Kendall's tau of {len(values)} metrics, chance 0: {most(values, lambda name: tau(correlations[name]))}."
    if reference:
        alt += f" The training loss, the reference: {tau(correlations[reference])}."
    return Drawn("tau", "Kendall's tau of each metric", caption, alt, figure)


def given(evidence: Evidence) -> Drawn:
    """The rank correlation that is left where the training loss is held, drawn as tau is."""
    left = {
        name: SimpleNamespace(tau=own.partial, low=own.partial_low, high=own.partial_high, rough=own.rough)
        for name, own in evidence.correlations.items()
        if isfinite(own.partial)
    }
    caption = (
        f"Spearman's rank correlation of each metric with the generalisation gap given the training loss, over "
        f"{len(evidence.rows)} networks; bars are 95 % intervals by the jackknife over settings; chance is about 0. "
        "Each interval is about one metric: one in twenty leaves out 0 by chance."
    )
    label = "rank correlation with the generalisation gap given the training loss"
    values = {name: own.tau for name, own in left.items()}
    alt = f"Rank correlation of {len(left)} metrics, chance about 0: {most(values, lambda name: tau(left[name]))}."
    figure = _figure_of(plot_tau_forest(left, label=label))
    return Drawn("held", "What is left given the training loss", caption, alt, figure)


def against_gap(evidence: Evidence, metric: str, ax: Axes) -> None:
    """One metric of every network against the gap, with its tau above."""
    found = evidence.correlations[metric]
    plot_metric_against_gap(
        evidence.rows,
        metric,
        ax,
        group=evidence.group,
        tau=found.tau,
        low=found.low,
        high=found.high,
        rough=found.rough,
    )


def scatter(evidence: Evidence) -> Drawn:
    """Each metric against the gap, network by network."""
    correlations, many = evidence.correlations, len(evidence.correlations) > MANY

    def draw(metric: str, ax: Axes) -> None:
        found = correlations[metric]
        against_gap(evidence, metric, ax)
        if ax.get_xscale() == "linear":
            ax.locator_params(axis="x", nbins=3 if many else 4)
        if many:
            ax.set_title(f"τ = {found.tau:+.2f}", fontsize=SMALL, loc="left")
            ax.set_ylabel("gap in loss", fontsize=SMALL)
            ax.set_xlabel(fill(words(metric), WIDE), fontsize=SMALL)
            ax.xaxis.set_minor_formatter(NullFormatter())
            for line in ax.get_lines():
                line.set(markersize=2.5, markeredgewidth=0.6)

    caption = (
        "Each metric against the generalisation gap (test loss − training loss, upwards), one mark a network, colour "
        f"and marker the {words(evidence.group) or 'same'}; horizontal bars are the metric's standard error where it "
        "was sampled."
    )
    names = [name for name in correlations if any(isfinite(row[name]) for row in evidence.rows)]
    size: dict[str, Any] = {"columns": 5, "width": 2.1, "height": 1.75} if many else {}
    alt = (
        f"{len(names)} scatter plots of {len(evidence.rows)} networks; tau with the gap: "
        f"{_most({name: correlations[name].tau for name in names})}."
    )
    return Drawn("metrics", "Metrics against the gap", caption, alt, panels(names, draw, legend=True, **size))


def psi(evidence: Evidence) -> Drawn:
    """psi along each setting."""
    caption = (
        "Share of pairs that metric and gap order alike less the share they order otherwise, ties counting 0, among "
        "networks that agree in every setting but one, averaged over these groups; chance is 0. The last column is the "
        "mean over the settings but the seed. Hatched: no two networks differ in that setting alone, or by seed only, "
        "which is no evidence about a metric."
    )
    values = {name: own.psi_mean for name, own in evidence.correlations.items()}
    alt = f"Heat map of {len(values)} metrics by {len(evidence.axes)} settings; mean psi: {_most(values)}."
    return Drawn("psi", "Along one setting at a time", caption, alt, _figure_of(plot_psi(evidence.correlations)))


def ranks(evidence: Evidence) -> Drawn:
    """Ranks by all criteria."""
    judged = {
        name: replace(found, sign_error=evidence.judged_sign_error[name].sign_error)
        for name, found in evidence.correlations.items()
    }
    caption = (
        "Rank of every metric among all, 1 the best: by |tau|, by the size of the mean psi, by K, by the size of the "
        "rank correlation given the training loss, and by the robust sign error; sorted by the mean rank. "
        "Hatched: not known; the sign error asks for 12 effective pairs in a change of one setting."
    )
    ax = plot_ranks(judged)
    order = [label.get_text() for label in ax.get_yticklabels()]
    alt = f"Heat map of the ranks of {len(order)} metrics by five criteria; the best mean rank first: "
    alt += f"{', '.join(order[:SHOWN])}; the last: {order[-1]}."
    return Drawn("ranks", "Ranks by five criteria", caption, alt, _figure_of(ax))


def _most(values: Mapping[str, float]) -> str:
    """The largest of one number a metric."""
    return most(values, lambda name: f"{values[name]:+.2f}")


def _figure_of(ax: Axes) -> Figure:
    figure = ax.figure
    assert isinstance(figure, Figure)
    return figure
