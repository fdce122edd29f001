"""Contours of a function on a rectangle: filled on a `Scale`, or the plain lines of Li et al. 2018."""

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.contour import QuadContourSet
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from landscape.plots.scale import Scale, number
from landscape.plots.style import SMALL, match_fonts

Array = NDArray[Any]

ROOM = 0.12  # of an axis, that a line must span for a number
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
        _label(ax, lines)
    return filled


def color_bar(filled: ScalarMappable, axes: Any, label: str, scale: Scale, **settings: Any) -> None:
    """The colours with a number at each level, beside one or several axes; the fonts are those of the first."""
    first = np.ravel(axes)[0]
    bar = first.figure.colorbar(
        filled, ax=axes, label=label, ticks=scale.levels, format=lambda value, _: number(value), **settings
    )
    bar.ax.minorticks_off()
    match_fonts(bar.ax, first)


def draw_lines(ax: Axes, x: Array, y: Array, z: Array, label: str) -> list[Artist]:
    """Labelled lines at 0.1, 0.6, ... 9.6 in the colours "summer", as the authors of Li et al. 2018 draw them.

    Returns:
        Legend entries: what the lines are of, and what no line is drawn of.
    """
    low, high = float(z[np.isfinite(z)].min()), float(z[np.isfinite(z)].max())
    crossed = LI2018[(low < LI2018) & (high > LI2018)]
    if crossed.size:
        lines = ax.contour(x, y, np.ma.masked_invalid(z), levels=crossed, cmap="summer", linewidths=1.0)
        _label(ax, lines)
    outside = [(high > LI2018[-1], f"no lines above {number(LI2018[-1])}")]
    outside += [(not crossed.size, f"no line crossed: {number(low)} to {number(high)}")]
    drawn: list[Artist] = [Line2D([], [], color=colormaps["summer"](0.3), label=label)] if crossed.size else []
    return drawn + [Line2D([], [], linestyle="", label=text) for on, text in outside if on]


def _label(ax: Axes, lines: QuadContourSet) -> None:
    """Number the lines that are large enough to carry a number: around a sharp minimum they would cover each other."""
    boxes = [path.get_extents() for path in lines.get_paths()]
    least = [ROOM * abs(last - first) for first, last in (ax.get_xlim(), ax.get_ylim())]
    shown = [
        level for level, box in zip(lines.levels, boxes, strict=True) if box.width > least[0] or box.height > least[1]
    ]
    ax.clabel(lines, shown, fmt=number, fontsize=SMALL - 1, colors="black")
