"""The loss on a plane as a surface in 3D, on the scale of the contours: the same levels, colours and cuts.

Each cell of the grid is one face, so that no point is skipped and rows are not taken for columns. A cell with a corner
that is not finite is left open.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from mpl_toolkits.mplot3d import Axes3D
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from numpy.typing import NDArray

from landscape.checks import require
from landscape.plots.planes import axis_labels, network_label, own_loss, plane_loss
from landscape.plots.scale import Scale, number, scale_of
from landscape.plots.style import HATCH, STAR, axes_or_new, legend_above
from landscape.storage.results import Slice2D

Array = NDArray[Any]

TICKS_APART = 0.12  # of the axis


def plot_surface(
    slice: Slice2D,
    split: str = "train",
    ax: Axes | None = None,
    *,
    levels: Sequence[float] | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    view: tuple[float, float] = (35.0, -60.0),
) -> Axes:
    """The loss on a plane as a surface, logarithmic where the contours are; a star at the network itself.

    Height and colour are the same number, which the upright axis names.

    Args:
        slice: of `slice_2d`, at least 2 points along each axis.
        split: whose loss.
        ax: axes with projection="3d"; default a new figure.
        levels: as in `plot_slice_2d`.
        vmin: likewise.
        vmax: likewise; the surface is cut off flat there.
        view: elevation and azimuth, in degrees.
    Raises:
        ValueError: if the axes are not 3D, no loss is finite, or as `plot_slice_2d`.
    """
    loss = plane_loss(slice, split)
    require(bool(np.isfinite(loss).any()), f"slice must hold a finite {split} loss, got none")
    ax = axes_or_new(ax, 4.6, 4.2, projection="3d")
    require(isinstance(ax, Axes3D), f"ax must have projection='3d', got {type(ax).__name__}")
    scale = scale_of(loss, levels, vmin, vmax)
    faces = _faces(slice.x.numpy(), slice.y.numpy(), loss, scale)
    _stand(ax, faces, slice, scale, f"{split} loss", view)
    open_cells = [Patch(label="open: not finite", **HATCH)] if not np.isfinite(loss).all() else []
    legend_above(ax, [*_star(ax, slice, loss, scale), *open_cells, *scale.legend()], columns=2)
    if (legend := ax.get_legend()) is not None:
        legend.set_bbox_to_anchor((0.5, 0.9), ax.transAxes)  # what 3D leaves empty above the box
    return ax


def _faces(x: Array, y: Array, loss: Array, scale: Scale) -> Any:
    """One quadrilateral a cell with four finite corners, coloured by their mean on the scale's axis."""
    points = np.stack([*np.meshgrid(x, y), scale.height(loss)], axis=-1)  # (ny, nx, 3)
    quads = np.stack([points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1]], axis=2).reshape(-1, 4, 3)
    corners = np.stack([loss[:-1, :-1], loss[:-1, 1:], loss[1:, 1:], loss[1:, :-1]], axis=2).reshape(-1, 4)
    whole = np.isfinite(corners).all(axis=1)
    shown = np.asarray(scale.clipped(corners[whole]))
    colors = np.exp(np.log(shown).mean(axis=1)) if scale.logarithmic else shown.mean(axis=1)
    faces = Poly3DCollection(quads[whole], cmap=scale.colors, norm=scale.norm, edgecolor=(0, 0, 0, 0.25), linewidth=0.2)
    faces.set_array(colors)
    return faces


def _stand(ax: Any, faces: Any, slice: Slice2D, scale: Scale, what: str, view: tuple[float, float]) -> None:
    """Put the faces on axes with labels, limits and the losses that the heights stand for."""
    ax.add_collection3d(faces)
    ax.view_init(*view)
    across, up = axis_labels(slice)
    ax.set(xlabel=across, ylabel=up, zlabel=what)
    heights = scale.height(scale.levels)
    ticks = _apart(heights)
    ax.set(zticks=heights[ticks], zticklabels=[number(value) for value in scale.levels[ticks]])
    ends = [(float(axis[0]), float(axis[-1])) for axis in (slice.x, slice.y)]
    ax.set(xlim=ends[0], ylim=ends[1], zlim=(heights[0], heights[-1]))
    ax.locator_params(axis="x", nbins=4, prune="upper")  # its last number would touch the first one of y
    ax.locator_params(axis="y", nbins=4)
    ax.zaxis.labelpad = 9.0
    ax.set_box_aspect((4, 4, 3), zoom=0.8)  # leaves the label of z inside the figure


def _apart(heights: Array) -> list[int]:
    """Those far enough from each other to carry a number, the first among them."""
    kept = [0]
    for index, height in enumerate(heights):
        if height - heights[kept[-1]] > TICKS_APART * (heights[-1] - heights[0]):
            kept.append(index)
    return kept


def _star(ax: Any, slice: Slice2D, loss: Array, scale: Scale) -> list[Artist]:
    """Mark the network on the surface."""
    value = own_loss(slice, loss)
    if value is None or not np.isfinite(value):
        return []
    ax.plot([0.0], [0.0], [float(scale.height(np.asarray(value)))], zorder=10, **STAR)
    return [Line2D([], [], label=network_label(slice, loss), **STAR)]
