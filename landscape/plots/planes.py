"""The loss on a plane as contours, of one network or of several on one scale; a star at the network itself.

What is not finite is hatched and never filled in; what lies outside the colours is named in the legend.
Source: Li et al. 2018, figure 5, arXiv:1712.09913.
"""

from collections.abc import Sequence
from math import ceil
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from landscape.checks import one_of, require
from landscape.plots.contours import color_bar, draw_lines, fill_contours
from landscape.plots.scale import number, scale_of
from landscape.plots.style import HATCH, LOOKS, SMALL, STAR, STYLE, axes_or_new, legend_above
from landscape.storage.results import Slice2D

Array = NDArray[Any]


def plot_slice_2d(
    slice: Slice2D,
    split: str = "train",
    ax: Axes | None = None,
    *,
    levels: Sequence[float] | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    style: str | None = None,
) -> Axes:
    """Filled and labelled contours of the loss on a plane; a star at the network itself.

    Args:
        slice: of `slice_2d`, at least 2 points along each axis.
        split: whose loss.
        ax: where to draw; default a new figure.
        levels: of the contours, rising; default round numbers from vmin to vmax, logarithmic where the loss is
            positive over more than a factor of 3.
        vmin: lower end of the colours; default the smallest loss, where that is not negative at least 1e-6 of vmax.
        vmax: upper end; default the largest loss, or about a hundred medians if that is less. `plot_slices_2d` gives
            several networks the same.
        style: "li2018" has lines at 0.1, 0.6, ... 9.6 and no fill; levels, vmin and vmax do not matter to it.
    Raises:
        ValueError: if the split or style is unknown, the grid too small, or vmin is not below vmax.
    """
    one_of("style", style, LOOKS)
    loss = plane_loss(slice, split)
    ax = axes_or_new(ax, width=4.6, height=4.0)
    legend = _star(ax, slice, loss) + _gaps(ax, slice, loss)
    finite = bool(np.isfinite(loss).any())
    if finite and style:
        legend += draw_lines(ax, slice.x.numpy(), slice.y.numpy(), loss, f"{split} loss")
    elif finite:
        scale = scale_of(loss, levels, vmin, vmax)
        color_bar(fill_contours(ax, slice.x.numpy(), slice.y.numpy(), loss, scale), ax, f"{split} loss", scale)
        legend += scale.legend()
    legend_above(ax, legend, columns=2)
    _name_axes(ax, slice)
    return ax


def plot_slices_2d(
    slices: Sequence[Slice2D],
    names: Sequence[str],
    split: str = "train",
    *,
    columns: int = 3,
    levels: Sequence[float] | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
) -> Figure:
    """The planes of several networks side by side on one scale, with one colour bar.

    Args:
        slices: of `slice_2d`, at least one with a finite loss.
        names: one each, above its plane together with the network's own loss.
        split: whose loss.
        columns: planes in a row.
        levels: as in `plot_slice_2d`, for all planes together.
        vmin: likewise.
        vmax: likewise.
    Raises:
        ValueError: if there is not one name for each slice, no loss is finite, or as `plot_slice_2d`.
    """
    require(len(slices) == len(names) > 0, f"names must be one for each slice, got {len(names)} for {len(slices)}")
    wide, high = min(columns, len(slices)), ceil(len(slices) / columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.9 * wide + 0.8, 2.6 * high + 0.3), layout="compressed")
        draw_slices_2d(figure, slices, names, split, columns, scale=(levels, vmin, vmax))
    return figure


def draw_slices_2d(
    figure: Figure | SubFigure,
    slices: Sequence[Slice2D],
    names: Sequence[str],
    split: str = "train",
    columns: int = 3,
    scale: tuple[Sequence[float] | None, float | None, float | None] = (None, None, None),
) -> None:
    """`plot_slices_2d` in a part of a figure; `scale` is its (levels, vmin, vmax)."""
    columns = min(columns, len(slices))
    losses = [plane_loss(own, split) for own in slices]
    together = np.concatenate([loss.ravel() for loss in losses])
    require(bool(np.isfinite(together).any()), f"slices must hold a finite {split} loss, got none")
    common = scale_of(together, *scale)
    axes = list(figure.subplots(ceil(len(slices) / columns), columns, squeeze=False).ravel())
    for ax in axes[len(slices) :]:
        ax.remove()
    legend: list[Artist] = []
    for ax, own, name, loss in zip(axes, slices, names, losses, strict=False):
        _star(ax, own, loss)
        legend = _gaps(ax, own, loss) or legend
        filled = fill_contours(ax, own.x.numpy(), own.y.numpy(), loss, common)
        _name_axes(ax, own)
        value = own_loss(own, loss)
        ax.set_title(f"{name}: {number(value)} at the star" if value is not None else name)
    color_bar(filled, axes[: len(slices)], f"{split} loss", common, shrink=0.9)
    handles = [*legend, *common.legend()]
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=SMALL, frameon=False)


def plane_loss(slice: Slice2D, split: str) -> Array:
    """The loss of the split, (ny, nx). Raises ValueError if the split is unknown or the grid has a single row."""
    one_of("split", split, tuple(slice.loss))
    loss: Array = slice.loss[split].numpy()
    require(min(loss.shape) >= 2, f"a contour plot needs at least 2 points along each axis, got {loss.shape} (ny, nx)")
    return loss


def own_loss(slice: Slice2D, loss: Array) -> float | None:
    """The loss of the network itself, at x = y = 0, where the grid holds that point."""
    x, y = slice.x.numpy(), slice.y.numpy()
    column, row = np.abs(x).argmin(), np.abs(y).argmin()
    on_grid = np.isclose(x[column], 0, atol=1e-9) and np.isclose(y[row], 0, atol=1e-9)
    return float(loss[row, column]) if on_grid else None


def axis_labels(slice: Slice2D) -> tuple[str, str]:
    """What the axes are: the directions' norms, and the cosine between them where it is not small."""
    one, two = slice.norms.tolist()
    cosine = f", cos = {float(slice.cosine):.2f}" if abs(float(slice.cosine)) > 0.1 else ""
    return f"x · d1   (|d1| = {one:.3g})", f"y · d2   (|d2| = {two:.3g}{cosine})"


def network_label(slice: Slice2D, loss: Array) -> str:
    """The star's entry in a legend."""
    value = own_loss(slice, loss)
    return "the network" if value is None else f"the network: {number(value)}"


def _star(ax: Axes, slice: Slice2D, loss: Array) -> list[Artist]:
    """Mark w, with its loss where the grid holds it."""
    if not all(span[0] <= 0 <= span[-1] for span in (slice.x, slice.y)):
        return []
    star = Line2D([0.0], [0.0], label=network_label(slice, loss), zorder=5, **STAR)
    ax.add_line(star)
    return [star]


def _gaps(ax: Axes, slice: Slice2D, loss: Array) -> list[Artist]:
    """Hatching behind the contours, seen where they leave a gap."""
    if np.isfinite(loss).all():
        return []
    (left, *_, right), (bottom, *_, top) = slice.x.tolist(), slice.y.tolist()
    ax.add_patch(Rectangle((left, bottom), right - left, top - bottom, zorder=0, label="not finite", **HATCH))
    return [Patch(label="not finite", **HATCH)]


def _name_axes(ax: Axes, slice: Slice2D) -> None:
    (left, *_, right), (bottom, *_, top) = slice.x.tolist(), slice.y.tolist()
    across, up = axis_labels(slice)
    ax.set(xlim=(left, right), ylim=(bottom, top), xlabel=across, ylabel=up)
    if np.isclose(right - left, top - bottom):
        ax.set_aspect("equal")
