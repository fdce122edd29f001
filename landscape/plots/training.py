"""Curves over the epochs of training runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from landscape.checks import require
from landscape.plots.style import axes_or_new, legend_above, look, spans_decades, words


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
    for name, (color, _) in look(list(logs)).items():
        epochs, values = ([float(row[column]) for row in logs[name]] for column in ("epoch", key))
        ax.plot(epochs, values, color=color, linewidth=1.3, label=words(name), marker="." if len(values) < 3 else "")
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in ax.lines])
    if "accuracy" not in key and spans_decades(drawn, 1.5):
        ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="epoch", ylabel=words(key))
    legend_above(ax)
    return ax
