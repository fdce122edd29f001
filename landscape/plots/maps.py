"""A map over a plane: one coloured cell per point, nothing interpolated; what is not finite is hatched."""

from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from landscape.checks import require
from landscape.plots.style import HATCH, axes_or_new, legend_above, match_fonts, spans_decades
from landscape.storage.results import Map2D


def plot_map(map2d: Map2D, ax: Axes | None = None, *, vmin: float | None = None, vmax: float | None = None) -> Axes:
    """Cells of the map's values, a star at the network itself, the largest error in the legend.

    Args:
        map2d: of `convexity_map` or `gradient_norm_map`, at least 2 points along each axis.
        ax: where to draw; default a new figure.
        vmin: lower end of the colours; default the smallest value, on the logarithmic scale the smallest that is
            larger than its error.
        vmax: upper end; default the largest. Give both to compare networks. The colours are logarithmic where they
            cover positive values over more than a decade.
    Raises:
        ValueError: if the grid is too small, or vmin is not below vmax.
    """
    values, x, y = map2d.values.numpy(), map2d.x.numpy(), map2d.y.numpy()
    require(min(values.shape) >= 2, f"a map needs at least 2 points along each axis, got {values.shape} (ny, nx)")
    ax = axes_or_new(ax, width=4.6, height=4.0)
    left, right, low, high = *_outer(x), *_outer(y)
    legend: list[Artist] = []
    if left <= 0 <= right and low <= 0 <= high:
        star = Line2D([0.0], [0.0], marker="*", ms=11, mfc="white", mec="black", ls="", label="the network", zorder=5)
        ax.add_line(star)
        legend.append(star)
    finite = np.isfinite(values)
    if not finite.all():
        ax.add_patch(Rectangle((left, low), right - left, high - low, zorder=0, **HATCH))  # seen through the gaps
        legend.append(Patch(label="not finite", **HATCH))
    if finite.any():
        errors = map2d.errors.numpy()[finite]
        norm = _norm(values[finite], errors, vmin, vmax)
        cells = ax.pcolormesh(x, y, np.ma.masked_invalid(values), norm=norm, cmap=colormaps["viridis"], rasterized=True)
        match_fonts(ax.figure.colorbar(cells, ax=ax, label=map2d.what).ax, ax)
        if errors.max() > 0:
            legend.append(Line2D([], [], ls="", label=f"error at most {errors.max():.1g}"))
    legend_above(ax, legend, columns=3)
    ax.set(xlim=(left, right), ylim=(low, high), xlabel="x · d1", ylabel="y · d2")
    if np.isclose(x[-1] - x[0], y[-1] - y[0]):
        ax.set_aspect("equal")
    return ax


def _outer(axis: NDArray[Any]) -> tuple[float, float]:
    """Where the first cell begins and the last one ends."""
    first, last = (axis[1] - axis[0]) / 2, (axis[-1] - axis[-2]) / 2
    return float(axis[0] - first), float(axis[-1] + last)


def _norm(finite: NDArray[Any], errors: NDArray[Any], vmin: float | None, vmax: float | None) -> Normalize:
    low = float(finite.min()) if vmin is None else vmin
    high = float(finite.max()) if vmax is None else vmax
    require(low < high or None in (vmin, vmax), f"vmin must be below vmax, got {low:.4g}, {high:.4g}")
    if not spans_decades(np.array([low, high]), 1.0):
        return Normalize(low, high)
    known = finite[finite > errors]
    if vmin is None and known.size:
        low = min(float(known.min()), high / 10)  # decades of a value that may as well be 0 are left out
    return LogNorm(low, high)
