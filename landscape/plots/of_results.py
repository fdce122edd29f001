"""`.plot()` of every result: by the function of this room that is made for it. landscape/__init__.py attaches it."""

from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from typing import Any, cast

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.checks import require
from landscape.plots.bands import plot_band
from landscape.plots.blocks import plot_block_spectra
from landscape.plots.estimates import plot_eigenvalues, plot_estimates
from landscape.plots.maps import plot_map
from landscape.plots.metrics import plot_tau_forest
from landscape.plots.planes import plot_slice_2d
from landscape.plots.slices import plot_slice_1d
from landscape.plots.spectrum import plot_density
from landscape.plots.style import BLUE, GREY, axes_or_new, legend_above
from landscape.plots.topology import plot_persistence
from landscape.plots.trajectory import plot_trajectory
from landscape.storage.results import (
    BezierPath,
    BlockSpectra,
    EigenPairs,
    Estimate,
    Map2D,
    Measurements,
    Persistence,
    Slice1D,
    Slice2D,
    SliceBand,
    SpectralDensity,
    Trajectory,
)

POINTS = 101  # along a curve


def draw(result: Any, ax: Axes | None = None, **options: Any) -> Axes:
    """Draw a result by the function that is made for it.

    Args:
        result: any that this package gives.
        ax: where to draw; default a new figure, which a notebook shows where the axes end a cell.
        options: of that function, such as `bandwidth` of `plot_density` or `split` of `plot_slice_2d`.
    Raises:
        ValueError: if there is no figure of such a result.
    """
    drawn = _function(result)(result, ax=ax, **options)
    if ax is None:  # IPython asks the axes themselves; a figure made without pyplot is not shown otherwise
        vars(drawn)["_repr_png_"] = partial(_png, cast(Figure, drawn.figure))
    return drawn


def _function(result: Any) -> Callable[..., Axes]:
    for kind, function in DRAWN.items():
        if isinstance(result, kind):
            return function
    if isinstance(result, Mapping):
        return plot_tau_forest
    if hasattr(result, "tau"):
        return _one_tau
    require(callable(result), f"there is no figure of a {type(result).__name__}; plot what it is made of")
    return _function_of_x


def _plane(slice: Slice2D, *, ax: Axes | None, split: str | None = None, **options: Any) -> Axes:
    return plot_slice_2d(slice, split or next(iter(slice.loss)), ax, **options)


def _estimate(estimate: Estimate, *, ax: Axes | None) -> Axes:
    return plot_estimates({"value": estimate}, ax)


def _one_tau(correlation: Any, *, ax: Axes | None, **options: Any) -> Axes:
    return plot_tau_forest({"metric": correlation}, ax, **options)


def _trajectory(run: Trajectory, *, ax: Axes | None, slice: Slice2D | None = None, split: str | None = None) -> Axes:
    """Over the plane where one is given, else how far the run is from the network and from the plane."""
    if slice is not None:
        return plot_trajectory(slice, run, split or next(iter(run.loss)), ax)
    ax = axes_or_new(ax)
    for values, name, color in ((run.distance, "from the network", BLUE), (run.off_plane, "off the plane", GREY)):
        ax.plot(run.steps.numpy(), values.numpy(), color=color, label=name)
    ax.set(xlabel="step", ylabel="distance")
    legend_above(ax)
    return ax


def _path(path: BezierPath, *, ax: Axes | None) -> Axes:
    """The curve in the plane of its three networks, the first axis from start to end; distances are the weights'."""
    straight, bend = (path.end - path.start).double(), (path.bend - path.start).double()
    length = float(straight.norm())
    along = float(bend @ straight) / length if length else 0.0
    off = float((bend.square().sum() - along**2).clamp(min=0).sqrt())
    weights = np.array([path.weights(t) for t in np.linspace(0, 1, POINTS)])
    corners = np.array([[0.0, 0.0], [along, off], [length, 0.0]])
    ax = axes_or_new(ax)
    ax.plot(*(weights @ corners).T, color=BLUE, label=path.kind)
    ax.plot(*corners.T, "o:", color=GREY, ms=4, label="start, bend, end")
    ax.set(xlabel="from start to end", ylabel="off the line")
    legend_above(ax)
    return ax


def _function_of_x(model: Callable[[torch.Tensor], torch.Tensor], *, ax: Axes | None, reach: float = 1.0) -> Axes:
    x = torch.linspace(-reach, reach, POINTS, dtype=torch.float64, device="cpu")
    ax = axes_or_new(ax)
    ax.plot(x.numpy(), model(x).detach().numpy(), color=BLUE)
    ax.set(xlabel="x", ylabel="loss")
    return ax


def _png(figure: Figure) -> bytes:
    data = BytesIO()
    figure.savefig(data, format="png", dpi=110)
    return data.getvalue()


DRAWN: dict[type, Callable[..., Axes]] = {
    BezierPath: _path,
    BlockSpectra: plot_block_spectra,
    EigenPairs: plot_eigenvalues,
    Estimate: _estimate,
    Map2D: plot_map,
    Measurements: plot_estimates,
    Persistence: plot_persistence,
    Slice1D: plot_slice_1d,
    Slice2D: _plane,
    SliceBand: plot_band,
    SpectralDensity: plot_density,
    Trajectory: _trajectory,
}
