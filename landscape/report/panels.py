"""Many small panels in one figure, with one legend and, where wanted, the same axes."""

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def panels(
    names: Sequence[str],
    draw: Callable[[str, Axes], None],
    *,
    columns: int = 3,
    width: float = 3.2,
    height: float = 2.4,
    legend: bool = False,
    layout: Literal["constrained", "compressed"] = "constrained",
) -> Figure:
    """One panel a name, with one legend for all above them or none."""
    columns = min(columns, len(names))
    lines = ceil(len(names) / columns)
    figure = Figure(figsize=(width * columns, height * lines), layout=layout)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax, name in zip(grid, names, strict=False):
        draw(name, ax)
    for ax in grid[len(names) :]:
        ax.remove()
    _one_legend(figure, list(grid[: len(names)]), legend)
    return figure


def _one_legend(figure: Figure, axes: Sequence[Axes], shown: bool) -> None:
    first = axes[0].get_legend()
    if shown and first is not None:
        labels = [text.get_text() for text in first.get_texts()]
        own = axes[0].get_legend_handles_labels()[0]
        handles: Sequence[Any] = own if len(own) == len(labels) else first.legend_handles  # twin axes share one legend
        figure.legend(handles, labels, loc="outside upper center", ncols=min(6, len(labels)), frameon=False)
        without_legends(figure)


def without_legends(figure: Figure) -> None:
    """Remove the legend of every panel."""
    for ax in figure.axes:
        legend = ax.get_legend()
        if legend is not None:
            legend.remove()


def share_limits(figure: Figure) -> None:
    """Give all panels the same axes; twin axes have theirs in common already."""
    shown = [ax for ax in figure.axes if ax.get_ylabel() != "accuracy"]
    xs, ys = ([limit for ax in shown for limit in get(ax)] for get in (Axes.get_xlim, Axes.get_ylim))
    for ax in shown:
        ax.set_xlim(min(xs), max(xs))
        ax.set_ylim(min(ys), max(ys))
