"""Curves over the epochs, and diagnostics over the steps, of training runs."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from landscape.checks import require
from landscape.plots.style import GREY, SMALL, STYLE, axes_or_new, legend_above, look, or_gap, spans_decades, words

BETWEEN_0_AND_1 = "alignment with $v_1$"
PANELS: dict[str, dict[str, str]] = {  # label of a panel to its keys; each key with what its line is called there
    "curvature": {
        "lambda_max": "$\\lambda_{max}$",
        "gap_lambda": "$2h/\\rho^2$",
        "gap_curvature": "$2(h-\\rho|g|)/\\rho^2$",
    },
    "surrogate gap $h$": {"gap": "$h$"},
    "cosine of $g$ and $g'$": {"cosine": "$\\cos(g, g')$"},
    BETWEEN_0_AND_1: {"alignment": "$|\\hat g \\cdot v_1|$", "e_alignment": "$|\\hat e \\cdot v_1|$"},
    "gradient norm": {"gradient_norm": "$|g|$"},
    "weight norm": {"weight_norm": "$|w|$"},
}
OPTIONAL: dict[str, dict[str, str]] = {  # drawn where a run has measured them
    "as the optimiser sees it": {
        "preconditioned": "$\\lambda_{max}(P^{-1}H)$",
        "threshold": "stable below: $2/\\eta$, Adam $38/\\eta$",
    },
    "trace": {"trace": "tr $H$"},
}
KEYS = ("step", "residual", *(key for keys in PANELS.values() for key in keys))  # that every row has
BANDS = {"lambda_max": "residual", "preconditioned": "preconditioned_residual", "trace": "trace_stderr"}
LINES: tuple[Literal["-", "--", ":"], ...] = ("-", "--", ":")
RUNS: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
DECADES = 1.5  # losses and diagnostics over more than so many are drawn on a logarithmic axis


def plot_training(
    logs: Mapping[str, Sequence[Mapping[str, Any]]], ax: Axes | None = None, key: str = "test_loss"
) -> Axes:
    """One curve per run.

    Args:
        logs: run to its rows, each with "epoch" and `key`; a run named like a training rule has that rule's colour.
        ax: where to draw; default a new figure.
        key: "train_loss", "train_accuracy", "test_loss" or "test_accuracy", or what else the rows hold. Losses over
            more than 1.5 decades are drawn on a logarithmic axis.
    Raises:
        ValueError: if there is no run, or a run lacks the key.
    """
    require(len(logs) > 0, "logs must hold at least one run, got none")
    for name, rows in logs.items():
        lacking = next((index for index, row in enumerate(rows) if not {"epoch", key} <= row.keys()), None)
        require(
            lacking is None,
            f"run {name!r}: every row must have 'epoch' and {key!r}, row {lacking} has {list(rows[lacking or 0])}",
        )
    ax = axes_or_new(ax)
    for index, (name, (color, _)) in enumerate(look(list(logs)).items()):
        epochs, values = ([float(row[column]) for row in logs[name]] for column in ("epoch", key))
        dot = "." if len(values) < 3 else ""
        style = RUNS[index % len(RUNS)]  # for readers without colours
        ax.plot(epochs, values, color=color, linestyle=style, linewidth=1.3, label=words(name), marker=dot)
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in ax.lines])
    if "accuracy" not in key and spans_decades(drawn, DECADES):
        ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="epoch", ylabel=words(key))
    legend_above(ax)
    return ax


def plot_diagnostics(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Six panels over the steps: curvature, surrogate gap h, cos(g, g'), alignments with v₁, |g| and |w|.

    Curvature is λmax with its residual as a band, 2h/ρ², its estimate at a stationary point, and 2(h − ρ|g|)/ρ², that
    along g, which is at most λmax up to O(ρ). Two more where they were measured: λmax(P⁻¹H) with the threshold of
    stable steps, 2/η for gradient descent and 38/η for Adam with β₁ = .9; tr H with its standard error.

    Args:
        logs: run to its rows of diagnostics.jsonl (`read_log(folder, "diagnostics.jsonl")`), or those of a `Tracker`
            as dicts; a run named like a training rule has that rule's colour. What is None or not finite is a gap.
    Raises:
        ValueError: if there is no run, or a run has no rows or lacks a key.
    """
    require(len(logs) > 0, "logs must hold at least one run, got none")
    for name, rows in logs.items():
        require(len(rows) > 0, f"run {name!r} must have at least one row of diagnostics, got none")
        lacking = ", ".join(sorted(key for key in KEYS if any(key not in row for row in rows)))
        require(not lacking, f"run {name!r}: every row must have {lacking}; train with diagnostics_every")
    colors = {name: color for name, (color, _) in look(list(logs)).items()}
    panels = PANELS | {label: keys for label, keys in OPTIONAL.items() if _measured(logs, next(iter(keys)))}
    columns = (len(panels) + 1) // 2
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.8 * columns, 4.6), layout="constrained")
        axes = figure.subplots(2, columns, sharex=True).flatten()
    for ax in axes[len(panels) :]:
        ax.remove()
    for ax, (label, keys) in zip(axes, panels.items(), strict=False):
        _panel(ax, label, keys, logs, colors)
    for ax in axes[len(panels) - columns : len(panels)]:
        ax.set_xlabel("step")
        ax.tick_params(labelbottom=True)
    runs = [Line2D([], [], color=color, label=words(name)) for name, color in colors.items()]
    figure.legend(handles=runs, loc="outside upper center", ncols=min(len(runs), 6), fontsize=SMALL, frameon=False)
    return figure


def _panel(
    ax: Axes,
    label: str,
    keys: Mapping[str, str],
    logs: Mapping[str, Sequence[Mapping[str, Any]]],
    colors: Mapping[str, str],
) -> None:
    for name, rows in logs.items():
        steps = [row["step"] for row in rows]
        for style, key in zip(LINES, keys, strict=False):
            marker = "." if len(rows) < 3 else ""
            ax.plot(steps, _column(rows, key), style, color=colors[name], linewidth=1.2, marker=marker)
        for key in keys.keys() & BANDS.keys():
            value, error = _column(rows, key), _column(rows, BANDS[key])
            ax.fill_between(steps, value - error, value + error, color=colors[name], alpha=0.2, linewidth=0)
    if label == BETWEEN_0_AND_1:
        ax.set_ylim(0, 1)
    elif spans_decades(np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in ax.lines]), DECADES):
        ax.set_yscale("log")
    ax.set_ylabel(label)
    if len(keys) > 1:
        kinds = [
            Line2D([], [], color=GREY, linestyle=style, label=text)
            for style, text in zip(LINES, keys.values(), strict=False)
        ]
        ax.legend(handles=kinds, fontsize=SMALL, frameon=False)


def _measured(logs: Mapping[str, Sequence[Mapping[str, Any]]], key: str) -> bool:
    return any(row.get(key) is not None for rows in logs.values() for row in rows)


def _column(rows: Sequence[Mapping[str, Any]], key: str) -> np.ndarray[Any, np.dtype[Any]]:
    return or_gap(np.array([np.nan if row.get(key) is None else row[key] for row in rows], dtype=float))
