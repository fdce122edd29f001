"""The loss or error along K lines: all of them thin, or their mean and the band that most of them keep to."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from landscape.checks import one_of
from landscape.plots.style import BLUE, RED, axes_or_new, legend_above, line_style, or_gap, spans_decades
from landscape.storage.results import SliceBand

Array = NDArray[Any]


def plot_band(
    band: SliceBand,
    ax: Axes | None = None,
    *,
    what: str = "loss",
    lines: bool = False,
    level: float = 0.9,
) -> Axes:
    """Loss (blue) or error (red) over K directions; train solid, test dashed.

    Args:
        band: of `slice_1d` along several directions.
        ax: where to draw; default a new figure.
        what: "loss", or "error": 1 − accuracy.
        lines: the K lines, thin, in place of their mean with a band.
        level: the share of the lines that the band holds, point by point.
    Returns:
        The axes; logarithmic where the loss is positive over more than 2 decades.
    Raises:
        ValueError: if `what` is neither, or the level is not in (0, 1].
    """
    one_of("what", what, ("loss", "error"))
    ax = axes_or_new(ax)
    x, color = band.x.numpy(), {"loss": BLUE, "error": RED}[what]
    values = {"loss": band.loss, "error": {split: 1 - own for split, own in band.accuracy.items()}}[what]
    count = len(next(iter(values.values())))
    legend: list[Line2D | Patch] = []
    for split, own in values.items():
        dashes = line_style(split)
        name = f"{split} {what}, {count} directions" if lines else f"{split} {what}, mean of {count} directions"
        legend.append(Line2D([], [], color=color, linestyle=dashes, label=name))
        if lines:
            ax.plot(x, or_gap(own.numpy()).T, color=color, linestyle=dashes, linewidth=0.6, alpha=0.7)
        else:
            _draw_band(ax, band, split, what, level, color)
    if not lines:
        legend.append(Patch(facecolor=color, alpha=0.2, linewidth=0, label=f"{100 * level:g} % of the directions"))
    if what == "loss" and spans_decades(np.concatenate([own.numpy().ravel() for own in values.values()]), 2.0):
        ax.set_yscale("log")
    ax.set(xlabel="x", ylabel=what, xlim=(x[0], x[-1]) if len(x) > 1 else None)
    legend_above(ax, legend, columns=2)
    return ax


def _draw_band(ax: Axes, band: SliceBand, split: str, what: str, level: float, color: str) -> None:
    kept = "loss" if what == "loss" else "accuracy"
    edges = [band.mean(split, what=kept), *band.band(split, what=kept, level=level)]
    mean, low, high = (or_gap((own if what == "loss" else 1 - own).numpy()) for own in edges)
    x = band.x.numpy()
    ax.plot(x, mean, color=color, linestyle=line_style(split), linewidth=1.3)
    ax.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
