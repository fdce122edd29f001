"""The loss on a plane as a plotly figure, for notebooks and for what else is to be drawn into it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_hex

from landscape.checks import require
from landscape.plots.captions import caption
from landscape.plots.planes import axis_labels, own_loss, plane_loss
from landscape.plots.scale import number, scale_of
from landscape.storage.results import Slice2D

SHADES = 33  # colours that the scale is given by
HOVER = "x = %{x:.4g}<br>y = %{y:.4g}<br>loss = %{customdata:.6g}<extra></extra>"

CAMERA = {"eye": {"x": 1.6, "y": 1.6, "z": 1.1}, "center": {"x": 0, "y": 0, "z": -0.15}}  # the labels stay inside


def interactive_surface(
    slice: Slice2D,
    split: str = "train",
    *,
    levels: Sequence[float] | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
) -> Any:
    """The surface of `plot_surface` as a plotly figure; the point under the mouse tells x, y and the loss.

    Args:
        slice: of `slice_2d`, at least 2 points along each axis.
        split: whose loss.
        levels: as in `plot_slice_2d`.
        vmin: likewise.
        vmax: likewise; the surface is cut off there, the loss under the mouse is the true one.
    Returns:
        A plotly.graph_objects.Figure.
    Raises:
        ValueError: if no loss is finite, or as `plot_slice_2d`.
        ImportError: without plotly.
    """
    graph = _plotly().graph_objects
    loss = plane_loss(slice, split)
    require(bool(np.isfinite(loss).any()), f"slice must hold a finite {split} loss, got none")
    scale = scale_of(loss, levels, vmin, vmax)
    ticks = {"tickvals": scale.height(scale.levels), "ticktext": [number(value) for value in scale.levels]}
    height = scale.height(loss)
    surface = graph.Surface(
        x=slice.x.numpy(),
        y=slice.y.numpy(),
        z=height,
        customdata=loss,
        cmin=float(scale.height(scale.levels)[0]),
        cmax=float(scale.height(scale.levels)[-1]),
        colorscale=[[i / (SHADES - 1), to_hex(scale.colors(i / (SHADES - 1)))] for i in range(SHADES)],
        colorbar={"title": f"{split} loss", **ticks},
        hovertemplate=HOVER,
    )
    across, up = axis_labels(slice)
    scene = {"xaxis_title": across, "yaxis_title": up, "zaxis": {"title": f"{split} loss", **ticks}, "camera": CAMERA}
    figure = graph.Figure([surface, *_star(graph, slice, loss, scale.height(loss))])
    cut = [f" Surface {patch.get_label()}." for patch in scale.legend()]
    title = {"text": "".join([caption(slice, split), *cut]), "font": {"size": 12}}
    figure.update_layout(scene=scene, title=title, showlegend=False, margin={"b": 20, "l": 20, "r": 20})
    return figure


def _star(graph: Any, slice: Slice2D, loss: Any, height: Any) -> list[Any]:
    """The network itself, where the grid holds it."""
    value = own_loss(slice, loss)
    if value is None or not np.isfinite(value):
        return []
    at = height[np.abs(slice.y.numpy()).argmin(), np.abs(slice.x.numpy()).argmin()]
    marker = {"size": 5, "color": "white", "line": {"color": "black", "width": 1}, "symbol": "diamond"}
    text = f"the network: {number(value)}<extra></extra>"
    return [graph.Scatter3d(x=[0.0], y=[0.0], z=[at], mode="markers", marker=marker, hovertemplate=text)]


def _plotly() -> Any:
    try:
        import plotly.graph_objects
    except ImportError as error:
        raise ImportError("an interactive page needs plotly; pip install 'landscape-toolkit[interactive]'") from error
    return plotly
