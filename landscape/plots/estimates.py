"""Numbers with their errors: eigenvalues within their residuals, estimates within two standard errors."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from landscape.checks import require
from landscape.plots.style import BLUE, GREY, SMALL, axes_or_new, legend_above, spans_decades, words
from landscape.storage.results import EigenPairs, Estimate
from landscape.storage.results.shown import with_error

MOST = 60  # numbers that have a line of their own; more are a curve
DECADES = 1.5  # above which an axis is logarithmic


def plot_eigenvalues(pairs: EigenPairs, ax: Axes | None = None) -> Axes:
    """Eigenvalues in their order with their residual bounds; empty marks have not converged.

    Args:
        pairs: of `top_eigenpairs`.
        ax: where to draw; default a new figure. Logarithmic where the values are positive over more than 1.5 decades.
    """
    ax = axes_or_new(ax)
    values, bounds, sure = _array(pairs.values), _array(pairs.residuals), pairs.converged.cpu().numpy()
    order = np.arange(1, len(values) + 1)
    for own, name, face in ((sure, "converged", BLUE), (~sure, "not converged", "white")):
        if own.any():
            ax.errorbar(order[own], values[own], bounds[own], fmt="o", ms=4, color=BLUE, mfc=face, label=name)
    if spans_decades(values, DECADES):
        ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="number", ylabel="eigenvalue")
    legend_above(ax)
    return ax


def plot_estimates(estimates: Mapping[str, Estimate], ax: Axes | None = None) -> Axes:
    """A line each with value ± two standard errors, the first on top; empty marks have not converged.

    Args:
        estimates: name to Estimate, as `analyze` gives them; one of several numbers has a line for each.
        ax: where to draw; default a new figure as high as needed. One estimate of more than 60 numbers is a curve.
            Logarithmic on both sides of 0 where the numbers span more than 1.5 decades.
    Raises:
        ValueError: if there is nothing to draw.
    """
    names, values, errors, sure = _lines(estimates)
    require(len(values) > 0, "estimates must hold at least one number, got none")
    if len(estimates) == 1 and len(values) > MOST:
        return _curve(values, errors, axes_or_new(ax))
    ax = axes_or_new(ax, height=0.9 + 0.2 * len(values))
    rows = np.arange(len(values))
    shown = np.isfinite(values)
    for own, face in ((shown & sure, BLUE), (shown & ~sure, "white")):
        ax.errorbar(values[own], rows[own], xerr=2 * errors[own], fmt="o", ms=4, color=BLUE, mfc=face)
    sizes = np.abs(values[shown & (values != 0)])
    if spans_decades(sizes, DECADES):
        ax.set_xscale("symlog", linthresh=float(sizes.min()))
    for row, (value, error) in enumerate(zip(values, errors, strict=True)):
        text = with_error(value, error) + ("" if sure[row] else " not converged")
        ax.annotate(text, (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=SMALL)
    ax.set_yticks(rows, [words(name) for name in names])
    ax.set(ylim=(len(values) - 0.4, -0.6), xlabel="value ± two standard errors")
    return ax


def _curve(values: NDArray[np.float64], errors: NDArray[np.float64], ax: Axes) -> Axes:
    index = np.arange(len(values))
    ax.plot(index, values, color=BLUE, linewidth=0.8, label="value", rasterized=True)
    ax.fill_between(
        index, values - 2 * errors, values + 2 * errors, color=GREY, alpha=0.3, label="± two standard errors"
    ).set_rasterized(True)
    ax.set(xlabel="number", ylabel="value")
    legend_above(ax)
    return ax


def _lines(
    estimates: Mapping[str, Estimate],
) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Name, value, standard error of each number, and whether the iteration behind it has ended."""
    found = [
        (name if own.value.numel() == 1 else f"{name}[{index}]", value, error, own.converged is not False)
        for name, own in estimates.items()
        for index, (value, error) in enumerate(
            zip(_array(own.value.reshape(-1)), _array(own.stderr.reshape(-1)), strict=True)
        )
    ]
    names, values, errors, sure = zip(*found, strict=True) if found else ((), (), (), ())
    known = np.nan_to_num(np.array(errors, dtype=float), nan=0.0, posinf=0.0)
    return list(names), np.array(values, dtype=float), known, np.array(sure, dtype=bool)


def _array(values: Tensor) -> NDArray[np.float64]:
    return values.detach().double().cpu().numpy()
