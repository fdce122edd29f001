"""The spectral density of a curvature operator, as stochastic Lanczos quadrature gives it."""

from collections.abc import Sequence
from math import ceil, log10, pi, sqrt
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from landscape.checks import one_of, positive
from landscape.plots.style import BLUE, GREY, axes_or_new, legend_above
from landscape.storage.results import SpectralDensity

Array = NDArray[Any]

BANDWIDTH = 0.01  # of the spectrum's width
BAND = "± 2 stderr, on the log scale"
OUTLIERS = "outliers"
DECADES = 8  # at most, below the highest density


def plot_density(
    density: SpectralDensity,
    ax: Axes | None = None,
    *,
    bandwidth: float | None = None,
    eigenvalues: Tensor | Sequence[float] | None = None,
    label: str | None = None,
    color: str | None = None,
    scale: str = "linear",
) -> Axes:
    """Density of eigenvalues on a logarithmic axis: mean over probes, and a band of two standard errors.

    The band is mean · exp(± 2 stderr / mean), two standard errors of the logarithm to first order: where few probes
    see an eigenvalue, mean - 2 stderr would fall below 0 and off the axis. Outliers that were found one by one are
    stems as high as the Gaussian of one eigenvalue, and the curve is the bulk alone.

    Args:
        density: of `spectral_density`.
        ax: where to draw; default a new figure.
        bandwidth: standard deviation of the Gaussian that stands for a node; default 1 % of the range of the nodes
            without the outliers.
        eigenvalues: (k,), known ones, such as `top_eigenpairs(...).values`; drawn as ticks from below.
        label: of the mean line; default "mean of n probes".
        color: of line and band.
        scale: "linear", or "symlog": logarithmic in |eigenvalue| from the power of ten above the bandwidth.
    Raises:
        ValueError: if the bandwidth is not positive or the scale unknown.
    """
    one_of("scale", scale, ("linear", "symlog"))
    bulk = _bulk(density)
    nodes = bulk.nodes.double()[bulk.weights > 0].cpu()
    sigma = _bandwidth(nodes) if bandwidth is None else bandwidth
    positive("bandwidth", sigma)
    grid = _grid(nodes, sigma)
    mean, stderr = (curve.cpu().numpy() for curve in bulk.evaluate(grid.to(bulk.nodes.device), sigma))
    x = grid.numpy()

    ax = axes_or_new(ax)
    first = not ax.lines
    shade = color or BLUE
    probes = len(density.nodes)
    ax.plot(x, mean, color=shade, linewidth=1.2, label=label or f"mean of {probes} probe{'s' * (probes > 1)}")
    if probes > 1:
        factor = np.exp(2 * stderr / np.maximum(mean, np.finfo(float).tiny))
        named = BAND if BAND not in ax.get_legend_handles_labels()[1] else None
        ax.fill_between(x, mean / factor, mean * factor, color=shade, alpha=0.25, linewidth=0, label=named)
    low, high = _limits(mean)
    if len(density.outliers):
        height = float(density.weights[0, -1]) / (sigma * sqrt(2 * pi))
        low = min(low, 0.1 * height)
        _stems(ax, density.outliers.cpu().double().numpy(), height, shade)
    if eigenvalues is not None:
        ticks = torch.as_tensor(eigenvalues, device="cpu").detach().double().numpy()
        ax.vlines(ticks, 0, 0.08, transform=ax.get_xaxis_transform(), color=GREY, linewidth=1.0, label="eigenvalues")
    if scale == "symlog":
        ax.set_xscale("symlog", linthresh=10.0 ** ceil(log10(sigma)), linscale=0.5)
    ax.set_yscale("log")
    ax.set_ylim((low, high) if first else (min(low, ax.get_ylim()[0]), max(high, ax.get_ylim()[1])))
    ax.set(xlabel="eigenvalue", ylabel="density")
    legend_above(ax)
    return ax


def _bulk(density: SpectralDensity) -> SpectralDensity:
    """The density without its outliers; its weights sum to less than 1."""
    count = density.nodes.shape[1] - len(density.outliers)
    return SpectralDensity(density.nodes[:, :count], density.weights[:, :count])


def _stems(ax: Axes, outliers: Array, height: float, color: str) -> None:
    named = OUTLIERS if OUTLIERS not in ax.get_legend_handles_labels()[1] else None
    ax.vlines(outliers, 1e-300, height, color=color, linewidth=0.9)  # from below the logarithmic axis
    ax.plot(outliers, [height] * len(outliers), "o", color=color, markersize=3.0, label=named)


def _bandwidth(nodes: Tensor) -> float:
    """1 % of the nodes' range; of their size where all are equal, as for a multiple of the identity."""
    low, high = float(nodes.min()), float(nodes.max())
    width = high - low
    return BANDWIDTH * (width if width > 1e-9 * max(abs(low), abs(high)) else max(abs(high), 1e-12))


def _grid(nodes: Tensor, sigma: float) -> Tensor:
    """(n,): even, four points a bandwidth where that is feasible, and every node, so that no peak falls between."""
    low, high = float(nodes.min()) - 5 * sigma, float(nodes.max()) + 5 * sigma
    count = int(min(max(4 * (high - low) / sigma, 400), 4000))
    return torch.cat([torch.linspace(low, high, count, dtype=torch.float64, device="cpu"), nodes]).unique()


def _limits(mean: Array) -> tuple[float, float]:
    """From a tenth of the lowest peak, 3 to DECADES decades below the highest, to ten times the highest."""
    top = float(mean.max())
    inner = mean[1:-1]
    peaks = inner[(inner > mean[:-2]) & (inner > mean[2:])]
    lowest = 0.1 * float(peaks.min()) if peaks.size else top
    return min(max(lowest, top * 10.0**-DECADES), 1e-3 * top), 10 * top
