"""Curvature of a network's parts side by side, as in Chen et al. 2022, arXiv:2106.01548, Table 3."""

import numpy as np
from matplotlib.axes import Axes

from landscape.checks import one_of, require
from landscape.plots.style import BLUE, GREY, RED, SMALL, axes_or_new, spans_decades
from landscape.storage.results import BlockSpectra

LABELS = {"eigenvalue": "leading eigenvalue", "trace": "trace", "mean": "trace / parameters"}
DECADES = 1.5  # positive values over more than so many are drawn on a logarithmic axis


def plot_block_spectra(result: BlockSpectra, ax: Axes | None = None, *, quantity: str = "eigenvalue") -> Axes:
    """One bar a block (on a logarithmic axis one mark), the first on top, with its error.

    The error is the residual bound, or two standard errors of a trace.

    Args:
        result: of `block_spectra`.
        ax: where to draw; default a new figure as high as needed.
        quantity: "eigenvalue" (the first that was asked for), "trace", or "mean" (trace / parameters, the mean
            eigenvalue of the block, which compares blocks of different size).
    Raises:
        ValueError: if the quantity is unknown, or no block has a finite one.
    """
    one_of("quantity", quantity, tuple(LABELS))
    values, errors = _values(result, quantity)
    finite = np.isfinite(values)
    require(bool(finite.any()), f"result must hold a finite {LABELS[quantity]} at least once, got none")
    ax = axes_or_new(ax, height=0.9 + 0.22 * len(values))
    rows = np.arange(len(values))
    colors = [RED if value < 0 else BLUE for value in values]
    logarithmic = spans_decades(values, DECADES)
    shown = [color for color, own in zip(colors, finite, strict=True) if own]
    if logarithmic:  # the length of a bar would mean nothing
        ax.scatter(values[finite], rows[finite], c=shown, s=16, zorder=3)
        ax.grid(axis="x", linewidth=0.4, alpha=0.5)
    else:
        ax.barh(rows[finite], values[finite], color=shown)
    below = np.minimum(errors, values * 0.999) if logarithmic else errors  # a bar through 0 has no end on a log axis
    spans = np.stack([below[finite], errors[finite]])
    ax.errorbar(values[finite], rows[finite], xerr=spans, fmt="none", ecolor=GREY, elinewidth=1.0)
    for row in rows[~finite]:
        ax.annotate("not finite", (0.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=SMALL)
    if logarithmic:
        ax.set_xscale("log")
    ax.set_yticks(rows, [name or "(root)" for name in result.names])
    ax.set(xlabel=LABELS[quantity], ylim=(len(values) - 0.4, -0.6))
    return ax


def _values(result: BlockSpectra, quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """What the bars show and its error, (L,) each."""
    if quantity == "eigenvalue":
        return result.values[:, 0].double().numpy(), result.residuals[:, 0].double().numpy()
    scale = 1 / result.sizes.double().numpy() if quantity == "mean" else 1.0
    return result.trace.double().numpy() * scale, 2 * result.trace_stderr.double().numpy() * scale
