"""Places in a plane of weights: axes that hold them, and their names."""

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.axes import Axes

Axis = tuple[float, float, int]


def around(places: torch.Tensor, points: int, margin: float = 0.25) -> tuple[Axis, Axis]:
    """Axes that hold all places (n, 2) and some room."""
    low, high = (end.double() for end in places.aminmax(dim=0))
    x, y = torch.stack([low - margin * (high - low), high + margin * (high - low)], 1).tolist()
    return (x[0], x[1], points), (y[0], y[1], points)


def mark(ax: Axes, places: Sequence[Sequence[float]], names: Sequence[str], fontsize: float = 8) -> None:
    """Name points of a plane."""
    for (x, y), name in zip(places, names, strict=True):
        ax.plot([x], [y], marker="o", ms=5, mfc="white", mec="black", ls="", zorder=4)
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
        above: dict[str, Any] = {"xytext": (0, 9), "textcoords": "offset points", "ha": "center"}
        ax.annotate(name, (x, y), fontsize=fontsize, bbox=box, zorder=6, **above)
