"""The figures of one network: its spectrum, the loss along a line, and on a plane for each split."""

from collections.abc import Iterator
from typing import cast

from matplotlib.figure import Figure

from landscape.plots import plot_density, plot_slice_1d, plot_slice_2d
from landscape.plots.captions import caption
from landscape.plots.style import words
from landscape.report.alternatives import of_density, of_line, of_plane
from landscape.report.metric_figures import Drawn
from landscape.report.network_findings import NetworkFindings


def network_figures(found: NetworkFindings) -> Iterator[Drawn]:
    """The spectrum first."""
    density, effort = found.density, found.effort
    ax = plot_density(density, eigenvalues=found.pairs.values, scale="symlog")
    told = (
        f"Density of the Hessian's eigenvalues by stochastic Lanczos quadrature, {effort.probes} probes of "
        f"{effort.steps} steps, with a band of two standard errors; ticks: the "
        f"{len(found.pairs.values)} eigenvalues of largest size."
    )
    yield Drawn("spectrum", "Hessian spectrum", told, of_density("Density", density), cast(Figure, ax.figure))
    line, plane = found.line, found.plane
    ax = plot_slice_1d(line)
    alt = f"Loss along a line. {' '.join(of_line(words(split), line, split) for split in line.loss)}"
    told = f"Loss (left) and accuracy (right) along a random direction: {caption(line)}"
    yield Drawn("line", "Loss along one direction", told, alt, cast(Figure, ax.figure))
    for split in plane.loss:
        ax = plot_slice_2d(plane, split)
        ax.locator_params(axis="x", nbins=6)  # more numbers touch
        told = f"The star is the network; 1 moves every filter by its own norm: {caption(plane, split)}"
        alt = f"Contours of the loss. {of_plane(words(split), plane, split)}"
        yield Drawn(f"plane_{split}", f"Loss surface, {words(split)}", told, alt, cast(Figure, ax.figure))
