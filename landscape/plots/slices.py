"""The loss along a line, in the look of Li et al. 2018: loss and accuracy on twin axes; what is not finite is hatched.

Source: Li et al. 2018, figure 2, arXiv:1712.09913.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor

from landscape.checks import one_of
from landscape.plots.style import (
    BLUE,
    GREY,
    HATCH,
    LOOKS,
    RED,
    axes_or_new,
    legend_above,
    line_style,
    match_fonts,
    or_gap,
    spans_decades,
)
from landscape.storage.results import Slice1D

Array = NDArray[Any]


def plot_slice_1d(
    slice: Slice1D,
    ax: Axes | None = None,
    *,
    model: Callable[[Tensor], Tensor] | None = None,
    style: str | None = None,
) -> Axes:
    """Loss (blue, left) and accuracy (red, right) along a line; train solid, test dashed.

    Args:
        slice: of `slice_1d`.
        ax: where to draw; default a new figure.
        model: x (n,) to a loss (n,), drawn dotted beside the true one, such as `quadratic_model(problem, direction)`.
        style: "li2018" has the authors' colours, accuracy in per cent, and a linear axis.
    Returns:
        The axes of the loss; unless the style is given logarithmic where it is positive over more than 2 decades.
    Raises:
        ValueError: if the style is unknown.
    """
    one_of("style", style, LOOKS)
    blue, red, whole, unit = ("blue", "red", 100.0, "accuracy (%)") if style else (BLUE, RED, 1.0, "accuracy")
    ax = axes_or_new(ax)
    x = slice.x.numpy()
    losses = {split: or_gap(loss.numpy()) for split, loss in slice.loss.items()}
    lines = _draw(ax, x, losses, blue, "loss")
    if not style and spans_decades(np.concatenate(list(losses.values())), 2.0):
        ax.set_yscale("log")
    ax.set(xlabel="x", xlim=(x[0], x[-1]) if len(x) > 1 else None)
    if model is not None:
        shown = ax.get_ylim()  # the true loss decides what is seen
        lines += ax.plot(x, model(slice.x).numpy(), color=GREY, linestyle=":", label="quadratic model")
        ax.set_ylim(shown)
    accuracies = {split: whole * own.numpy() for split, own in slice.accuracy.items() if own.isfinite().any()}
    if accuracies:
        right = ax.twinx()
        match_fonts(right, ax)
        lines += _draw(right, x, accuracies, red, "accuracy")
        right.set(ylabel=unit, ylim=(0.0, 1.03 * whole))
    hatched = _hatch_gaps(ax, x, np.isfinite(np.stack(list(losses.values()))).all(axis=0))
    legend_above(ax, lines + hatched, columns=(len(lines + hatched) + 1) // 2)
    return ax


def _draw(ax: Axes, x: Array, curves: dict[str, Array], color: str, what: str) -> list[Artist]:
    """One line per split; the axis in its colour."""
    lines: list[Artist] = []
    for split, values in curves.items():
        lines += ax.plot(x, values, color=color, linestyle=line_style(split), linewidth=1.3, label=f"{split} {what}")
    ax.set_ylabel(what, color=color)
    ax.tick_params(axis="y", colors=color, which="both")
    return lines


def _hatch_gaps(ax: Axes, x: Array, finite: Array) -> list[Artist]:
    """Hatch half a step to either side of each point that is not finite."""
    edges = np.concatenate([x[:1], (x[1:] + x[:-1]) / 2, x[-1:]])
    spans = [ax.axvspan(edges[i], edges[i + 1], zorder=0, **HATCH) for i in np.flatnonzero(~finite)]
    return [Patch(label="not finite", **HATCH)] if spans else []
