"""A quantity along training runs that differ in their seed alone: the mean and the band that holds them all."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from landscape.checks import require
from landscape.plots.style import axes_or_new, or_gap


def plot_seeds(x: ArrayLike, values: ArrayLike, ax: Axes | None = None, *, label: str = "", **line: Any) -> Axes:
    """The mean over the seeds, and a band from the lowest to the highest.

    Args:
        x: steps or times, (T,).
        values: one row a seed, (seeds, T); where one of them is not finite there is a gap.
        ax: where to draw; default a new figure.
        label: of the mean in a legend.
        line: color, linestyle and the like of the mean; the band has its colour.
    Raises:
        ValueError: unless values is (seeds, T).
    """
    places, rows = np.asarray(x, dtype=float), or_gap(np.asarray(values, dtype=float))
    require(
        rows.ndim == 2 and len(rows) > 0 and rows.shape[1:] == places.shape,
        f"values must be (seeds, {len(places)}), one row a seed, got {rows.shape}",
    )
    ax = axes_or_new(ax)
    (mean,) = ax.plot(places, rows.mean(0), label=label, **{"linewidth": 1.3, **line})
    ax.fill_between(places, rows.min(0), rows.max(0), color=mean.get_color(), alpha=0.2, linewidth=0)
    return ax
