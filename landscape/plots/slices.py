"""Loss slices in the look of Li et al. 2018: a line with loss and accuracy, a plane with contours of the loss.

What is not finite is hatched and never filled in; what lies outside the colours is named in the legend.
Source: Li et al. 2018, figures 2 and 5, arXiv:1712.09913.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from landscape.checks import one_of, require
from landscape.plots.contours import draw_contours
from landscape.plots.style import BLUE, HATCH, RED, axes_or_new, legend_above, line_style, match_fonts, spans_decades
from landscape.results import Slice1D, Slice2D

Array = NDArray[Any]


def plot_slice_1d(slice: Slice1D, ax: Axes | None = None) -> Axes:
    """Loss (blue, left) and accuracy (red, right) along a line; train solid, test dashed.

    Args:
        slice: of `slice_1d`.
        ax: where to draw; default a new figure.
    Returns:
        The axes of the loss; logarithmic where it is positive over more than 2 decades.
    """
    ax = axes_or_new(ax)
    x = slice.x.numpy()
    losses = {split: _or_gap(loss.numpy()) for split, loss in slice.loss.items()}
    lines = _draw(ax, x, losses, BLUE, "loss")
    if spans_decades(np.concatenate(list(losses.values())), 2.0):
        ax.set_yscale("log")
    ax.set(xlabel="x", xlim=(x[0], x[-1]) if len(x) > 1 else None)
    accuracies = {split: own.numpy() for split, own in slice.accuracy.items() if own.isfinite().any()}
    if accuracies:
        right = ax.twinx()
        match_fonts(right, ax)
        lines += _draw(right, x, accuracies, RED, "accuracy")
        right.set_ylim(0.0, 1.03)
    hatched = _hatch_gaps(ax, x, np.isfinite(np.stack(list(losses.values()))).all(axis=0))
    legend_above(ax, lines + hatched, columns=(len(lines + hatched) + 1) // 2)
    return ax


def plot_slice_2d(
    slice: Slice2D,
    split: str = "train",
    ax: Axes | None = None,
    *,
    levels: Sequence[float] | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
) -> Axes:
    """Filled and labelled contours of the loss on a plane; a star at the network itself.

    Args:
        slice: of `slice_2d`, at least 2 points along each axis.
        split: whose loss.
        ax: where to draw; default a new figure.
        levels: of the contours, rising; default round numbers from vmin to vmax, logarithmic where the loss is
            positive over more than a factor of 3.
        vmin: lower end of the colours; default the smallest loss, where that is not negative at least 1e-6 of vmax.
        vmax: upper end; default the largest loss, or about a hundred medians if that is less. Give both to compare
            networks.
    Raises:
        ValueError: if the split is unknown, the grid too small, or vmin is not below vmax.
    """
    one_of("split", split, tuple(slice.loss))
    loss = slice.loss[split].numpy()
    require(min(loss.shape) >= 2, f"a contour plot needs at least 2 points along each axis, got {loss.shape} (ny, nx)")
    ax = axes_or_new(ax, width=4.6, height=4.0)
    x, y = slice.x.numpy(), slice.y.numpy()
    legend = _star(ax, x, y, loss)
    if not np.isfinite(loss).all():
        corner, width, height = (x[0], y[0]), x[-1] - x[0], y[-1] - y[0]
        ax.add_patch(Rectangle(corner, width, height, zorder=0, label="not finite", **HATCH))  # seen through the gaps
        legend.append(Patch(label="not finite", **HATCH))
    if np.isfinite(loss).any():
        legend += draw_contours(ax, x, y, loss, f"{split} loss", levels, vmin, vmax)
    legend_above(ax, legend, columns=2)
    one, two = slice.norms.tolist()
    cosine = f", cos = {float(slice.cosine):.2f}" if abs(float(slice.cosine)) > 0.1 else ""
    ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    ax.set(xlabel=f"x · d1   (|d1| = {one:.3g})", ylabel=f"y · d2   (|d2| = {two:.3g}{cosine})")
    if np.isclose(x[-1] - x[0], y[-1] - y[0]):
        ax.set_aspect("equal")
    return ax


def _draw(ax: Axes, x: Array, curves: dict[str, Array], color: str, what: str) -> list[Artist]:
    """One line per split; the axis in its colour."""
    lines: list[Artist] = []
    for split, values in curves.items():
        lines += ax.plot(x, values, color=color, linestyle=line_style(split), linewidth=1.3, label=f"{split} {what}")
    ax.set_ylabel(what, color=color)
    ax.tick_params(axis="y", colors=color, which="both")
    return lines


def _or_gap(values: Array) -> Array:
    """NaN for infinities too: a gap in the line."""
    return np.where(np.isfinite(values), values, np.nan)


def _hatch_gaps(ax: Axes, x: Array, finite: Array) -> list[Artist]:
    """Hatch half a step to either side of each point that is not finite."""
    edges = np.concatenate([x[:1], (x[1:] + x[:-1]) / 2, x[-1:]])
    spans = [ax.axvspan(edges[i], edges[i + 1], zorder=0, **HATCH) for i in np.flatnonzero(~finite)]
    return [Patch(label="not finite", **HATCH)] if spans else []


def _star(ax: Axes, x: Array, y: Array, loss: Array) -> list[Artist]:
    """Mark w, with its loss where the grid holds it."""
    if not (x[0] <= 0 <= x[-1] and y[0] <= 0 <= y[-1]):
        return []
    column, row = np.abs(x).argmin(), np.abs(y).argmin()
    on_grid = np.isclose(x[column], 0, atol=1e-9) and np.isclose(y[row], 0, atol=1e-9)
    value = f": {loss[row, column]:.3g}" if on_grid else ""
    star = Line2D(
        [0.0], [0.0], marker="*", ms=11, mfc="white", mec="black", ls="", label=f"the network{value}", zorder=5
    )
    ax.add_line(star)
    return [star]
