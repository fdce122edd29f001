"""Basins of a loss surface: the persistence diagram and the merge tree."""

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from landscape.checks import integer_in, require
from landscape.plots.style import BLUE, GREY, RED, axes_or_new, legend_above, spans_decades
from landscape.storage.results import Persistence


def plot_persistence(persistence: Persistence, ax: Axes | None = None) -> Axes:
    """Death against birth of each class; the farther above the diagonal, the longer it lives.

    Args:
        persistence: of `persistence`, at least one class.
        ax: where to draw; default a new figure. Logarithmic where the values are positive over more than 2 decades.
    Returns:
        The axes; classes that never die are triangles above the dotted line, where the height says nothing.
    Raises:
        ValueError: if there is no class.
    """
    birth, death = persistence.birth.numpy(), persistence.death.numpy()
    require(len(birth) > 0, "a diagram needs at least one class, got none")
    ax = axes_or_new(ax, width=3.6, height=3.6)
    dies = np.isfinite(death)
    shown = np.concatenate([birth, death[dies]])
    logarithmic = spans_decades(shown, 2.0)
    low, high = _margins(shown, logarithmic)
    top = _beyond(low, high, logarithmic, 0.06)
    words = ("minimum of the basin", "saddle it flows over") if persistence.dimension == 0 else ("birth", "death")
    ends = ("flow into a deeper basin", "never does") if persistence.dimension == 0 else ("end", "never ends")
    ax.plot([low, high], [low, high], color=GREY, linewidth=0.8, label=f"{words[0].split()[0]} = {words[1].split()[0]}")
    ax.axhline(high, color=GREY, linewidth=0.8, linestyle=":", label="above: no height known")
    ax.plot(
        birth[dies],
        death[dies],
        "o",
        color=BLUE,
        markersize=4,
        alpha=0.7,
        label=f"{dies.sum()} {ends[0]}",
    )
    ax.plot(birth[~dies], np.full((~dies).sum(), top), "^", color=RED, markersize=6, label=f"{(~dies).sum()} {ends[1]}")
    if logarithmic:
        ax.set(xscale="log", yscale="log")
    ax.set(xlim=(low, high), ylim=(low, _beyond(low, high, logarithmic, 0.12)), xlabel=words[0], ylabel=words[1])
    legend_above(ax, columns=2)
    return ax


def plot_merge_tree(persistence: Persistence, ax: Axes | None = None, *, top: int = 20) -> Axes:
    """Basins as stems from their minimum up to where they flow into a deeper one.

    Args:
        persistence: in dimension 0.
        ax: where to draw; default a new figure.
        top: only the basins that live longest, at most so many. What they flow into is among them.
    Raises:
        ValueError: if it is not of dimension 0 or top is below 1.
    """
    require(persistence.dimension == 0, f"a merge tree is of dimension 0, got {persistence.dimension}")
    integer_in("top", top, 1)
    ax = axes_or_new(ax)
    birth, death, parent = (column[:top] for column in (persistence.birth, persistence.death, persistence.parent))
    shown = torch.cat([birth, death[death.isfinite()]]).numpy()
    logarithmic = spans_decades(shown, 2.0)
    _, high = _margins(shown, logarithmic)
    place = _places(parent, death)
    ends = death.clamp(max=high).numpy()
    ax.vlines(place, birth.numpy(), ends, color=[RED if p < 0 else BLUE for p in parent.tolist()], linewidth=1.2)
    for row, into in enumerate(parent.tolist()):
        if into >= 0:
            ax.plot([place[row], place[into]], [ends[row]] * 2, color=GREY, linewidth=0.8)
    ax.plot(place, birth.numpy(), "o", color=GREY, markersize=3)
    if logarithmic:
        ax.set_yscale("log")
    more = len(persistence.birth) - len(birth)
    ax.set(xlabel=f"basins{f' ({more} shorter-lived left out)' if more else ''}", ylabel="value", xticks=[])
    return ax


def _places(parent: Tensor, death: Tensor) -> list[int]:
    """Positions from left to right: beside each basin those that flow into it, the first to do so next to it."""
    children: dict[int, list[int]] = {}
    for row in death.argsort(stable=True).tolist():
        children.setdefault(int(parent[row]), []).append(row)
    order: list[int] = []
    waiting = children.get(-1, [])[::-1]
    while waiting:
        row = waiting.pop()
        order.append(row)
        waiting += children.get(row, [])[::-1]
    return [order.index(row) for row in range(len(parent))]


def _margins(values: NDArray[Any], logarithmic: bool) -> tuple[float, float]:
    """A little below the lowest value and above the highest."""
    low, high = float(values.min()), float(values.max())
    if logarithmic:
        margin = (high / low) ** 0.08
        return low / margin, high * margin
    margin = 0.08 * (high - low) or 0.5
    return low - margin, high + margin


def _beyond(low: float, high: float, logarithmic: bool, share: float) -> float:
    """So much of the axis above its upper end."""
    return high * (high / low) ** share if logarithmic else high + share * (high - low)
