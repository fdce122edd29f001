"""Sharpness against generalisation: one metric over many trained networks, and the rank correlations of many."""

from collections.abc import Mapping, Sequence
from math import isfinite, nan
from typing import Any, Protocol, runtime_checkable

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from landscape.checks import one_of, require
from landscape.plots.style import BLUE, GREY, RED, SMALL, axes_or_new, legend_above, look, spans_decades, words

SURE = 0.05  # of a corrected p


@runtime_checkable
class Interval(Protocol):
    """A rank correlation with the ends of its confidence interval."""

    @property
    def tau(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def plot_metric_against_gap(
    rows: Sequence[Mapping[str, Any]],
    metric: str,
    ax: Axes | None = None,
    *,
    target: str = "generalization_gap",
    group: str = "rule",
    tau: float | None = None,
    low: float | None = None,
    high: float | None = None,
    rough: bool = False,
) -> Axes:
    """One point per trained network, with the metric's standard error as a bar.

    Args:
        rows: one per network, with `metric`, `target`, and where known f"{metric}_stderr" and `group`.
        metric: along x; logarithmic where it is positive over more than 1.5 decades.
        ax: where to draw; default a new figure.
        target: along y.
        group: what colour and marker tell apart; a training rule has its own.
        tau: Kendall's tau for the title, and `low`, `high` the ends of its interval; `rough` where it is of few
            clusters.
    Raises:
        ValueError: if no row has finite metric and target.
    """
    points = {row_index: _point(row, metric, target) for row_index, row in enumerate(rows)}
    shown = {index: point for index, point in points.items() if isfinite(point[0]) and isfinite(point[1])}
    require(len(shown) > 0, f"rows must hold finite {metric!r} and {target!r} at least once, got {len(rows)} without")
    groups = {index: str(rows[index].get(group, "")) for index in shown}

    ax = axes_or_new(ax)
    for name, (color, marker) in look(list(groups.values())).items():
        x, y, error = np.array([shown[index] for index, own in groups.items() if own == name]).T
        bars = error if np.isfinite(error).any() else None
        ax.errorbar(
            x, y, xerr=bars, color=color, marker=marker, ms=4, mfc="none", ls="", elinewidth=0.8, label=words(name)
        )
    if spans_decades(np.array([x for x, _, _ in shown.values()]), 1.5):
        ax.set_xscale("log")
    ax.set(xlabel=words(metric), ylabel=words(target))
    title = _title(tau, low, high, rough, len(shown), len(points) - len(shown))
    ax.set_title(title, fontsize=SMALL + 0.5, loc="left")
    if any(groups.values()):
        ax.legend(fontsize=SMALL, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def plot_tau_forest(
    correlations: Mapping[str, Interval],
    ax: Axes | None = None,
    *,
    label: str = "Kendall's τ with the generalisation gap",
    reference: str | None = None,
) -> Axes:
    """Kendall's tau of each metric with its interval, the largest on top, and the line of no correlation.

    Where a corrected p-value is known (`p_corrected`), a mark is full and starred below 0.05, else empty; where an
    interval is rough (`rough`, few clusters), it is dashed; a legend above says so.

    Args:
        correlations: name to anything with tau, low and high, such as `correlate` gives; NaN goes to the bottom.
        ax: where to draw; default a new figure as high as needed.
        label: of the axis: what is correlated with what.
        reference: the metric that the others are to be held against: its interval, of either sign, is a band.
    Raises:
        ValueError: if there is none, or the reference is not among them.
    """
    require(len(correlations) > 0, "correlations must hold at least one metric, got none")
    if reference is not None:
        one_of("reference", reference, tuple(correlations))
    order = sorted(correlations, key=lambda name: correlations[name].tau if isfinite(correlations[name].tau) else -2.0)
    ax = axes_or_new(ax, width=5.6, height=1.2 + 0.2 * len(order))
    for y, name in enumerate(order):
        own = correlations[name]
        rough = getattr(own, "rough", False)
        ax.hlines(y, own.low, own.high, color=BLUE, linewidth=1.5, linestyle="--" if rough else "-")
        p = getattr(own, "p_corrected", None)
        sure = p is not None and p < SURE
        ax.plot([own.tau], [y], "o", color=BLUE, markersize=4, mfc=BLUE if p is None or sure else "white")
        known = f"[{own.low:+.2f}, {own.high:+.2f}]" if isfinite(own.low) else "no interval"
        text = f"{own.tau:+.2f} {known}" if isfinite(own.tau) else "undefined"
        text += (" rough" if rough and isfinite(own.low) else "") + (" *" if sure else "")
        ax.annotate(text, (1.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=SMALL)
    ax.axvline(0.0, color=GREY, linewidth=0.8, linestyle=":")
    ax.set_yticks(range(len(order)), [words(name) for name in order])
    ax.set_xticks([-1.0, -0.5, 0.0, 0.5, 1.0])
    ax.set(xlim=(-1.03, 1.03), ylim=(-0.6, len(order) - 0.4), xlabel=label)
    marks = _marks(correlations)
    if reference is not None and isfinite(correlations[reference].low):
        own = correlations[reference]
        ends = sorted((abs(own.low), abs(own.high)))  # as surely as the reference rises with the gap, or falls
        sides = [(-ends[1], ends[1])] if own.low < 0 < own.high else [(-ends[1], -ends[0]), (ends[0], ends[1])]
        bands = [ax.axvspan(*side, color=RED, alpha=0.13, linewidth=0, zorder=0) for side in sides]
        bands[0].set_label(f"interval of {words(reference)}, either sign")
        marks.append(bands[0])
    legend_above(ax, marks, columns=2)
    return ax


def _marks(correlations: Mapping[str, Interval]) -> list[Artist]:
    """What full, empty and dashed mean, as far as they are there."""
    sure = {p < SURE for own in correlations.values() if isfinite(p := getattr(own, "p_corrected", nan))}
    mark: dict[str, Any] = {"color": BLUE, "marker": "o", "markersize": 4}
    marks: list[Artist] = [
        Line2D([], [], label=f"95 % interval{', p < 0.05 for all metrics *' if sure else ''}", **mark)
    ]
    if False in sure:
        marks.append(Line2D([], [], label="p above", mfc="white", **mark))
    if any(getattr(own, "rough", False) for own in correlations.values()):
        marks.append(Line2D([], [], color=BLUE, linestyle="--", label="rough: fewer than 8 settings"))
    marks.append(Line2D([], [], color=GREY, linewidth=0.8, linestyle=":", label="chance"))
    return marks


def _point(row: Mapping[str, Any], metric: str, target: str) -> tuple[float, float, float]:
    return float(row.get(metric, nan)), float(row.get(target, nan)), float(row.get(f"{metric}_stderr", nan))


def _title(tau: float | None, low: float | None, high: float | None, rough: bool, count: int, left_out: int) -> str:
    parts = [f"n = {count}"]
    if tau is not None:
        known = low is not None and high is not None and isfinite(low) and isfinite(high)
        interval = f" [{low:.2f}, {high:.2f}]{' rough' * rough}" if known else ""
        parts.insert(0, f"Kendall's τ = {tau:.2f}{interval}" if isfinite(tau) else "Kendall's τ undefined")
    if left_out:
        parts.append(f"{left_out} not finite, left out")
    return ", ".join(parts)
