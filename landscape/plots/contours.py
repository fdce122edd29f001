"""Contours of a function on a rectangle: filled on a `Scale`, or the plain lines of Li et al. 2018."""

from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from landscape.plots.scale import Scale, number
from landscape.plots.style import SMALL, match_fonts

Array = NDArray[Any]

LI2018 = np.arange(0.1, 10.0, 0.5)  # the levels of the authors' plots


def fill_contours(ax: Axes, x: Array, y: Array, z: Array, scale: Scale) -> ScalarMappable:
    """Fill, lines and their labels of z (ny, nx); what a colour bar is made of."""
    shown = scale.clipped(z)
    filled = ax.contourf(
        x,
        y,
        shown,
        levels=scale.levels,
        norm=scale.norm,
        cmap=scale.colors,
        extend=("neither", "max", "min", "both")[scale.above + 2 * scale.below],
    )
    crossed = scale.levels[(scale.levels > shown.min()) & (scale.levels < shown.max())]
    if crossed.size:
        lines = ax.contour(x, y, shown, levels=crossed, colors="black", linewidths=0.5, linestyles="solid", alpha=0.7)
        ax.clabel(lines, fmt=number, fontsize=SMALL - 1)
    return filled


def color_bar(filled: ScalarMappable, axes: Any, label: str, scale: Scale, **settings: Any) -> None:
    """The colours with a number at each level, beside one or several axes; the fonts are those of the first."""
    first = np.ravel(axes)[0]
    bar = first.figure.colorbar(
        filled, ax=axes, label=label, ticks=scale.levels, format=lambda value, _: number(value), **settings
    )
    bar.ax.minorticks_off()
    match_fonts(bar.ax, first)


def draw_lines(ax: Axes, x: Array, y: Array, z: Array) -> list[Artist]:
    """Labelled lines at 0.1, 0.6, ... 9.6 in the colours "summer", as the authors of Li et al. 2018 draw them.

    Returns:
        Legend entries for what no line is drawn of.
    """
    low, high = float(z[np.isfinite(z)].min()), float(z[np.isfinite(z)].max())
    crossed = LI2018[(low < LI2018) & (high > LI2018)]
    if crossed.size:
        lines = ax.contour(x, y, np.ma.masked_invalid(z), levels=crossed, cmap="summer", linewidths=1.0)
        ax.clabel(lines, fmt=number, fontsize=SMALL - 1)
    outside = [(high > LI2018[-1], f"no lines above {number(LI2018[-1])}")]
    outside += [(not crossed.size, f"no line crossed: {number(low)} to {number(high)}")]
    return [Line2D([], [], linestyle="", label=text) for on, text in outside if on]
