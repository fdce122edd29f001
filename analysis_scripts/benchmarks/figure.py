"""The benchmark's figure: what each package's answer costs and how far off it is."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.plots import save_figure
from landscape.plots.style import BLUE, GREY, RED, SMALL

COLOURS = {"ours": BLUE, "pyhessian": RED, "curvlinops": GREY}
NAMES = {"ours": "landscape", "pyhessian": "PyHessian", "curvlinops": "curvlinops"}


def draw(rows: list[dict[str, Any]], stem: Path) -> list[Path]:
    """Bars of gradient-times and of errors for each question; what failed is said where its bar would be."""
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _bars(left, rows, "gradient_times", "cost, in gradients of the loss")
    _bars(right, [row for row in rows if row["question"] != "density"], "error", "largest relative error")
    left.set_yticks(range(len(rows)), [row["question"] if row["contender"] == "pyhessian" else "" for row in rows])
    left.invert_yaxis()
    handles = [left.barh([0], [0], color=colour, label=NAMES[name]) for name, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize=SMALL)
    return save_figure(figure, stem)


def _bars(ax: Axes, rows: list[dict[str, Any]], key: str, label: str) -> None:
    known = [row[key] for row in rows if row.get(key)]
    low = min(known) / 3
    for place, row in enumerate(rows):
        if row.get(key):
            ax.barh(place, row[key] - low, left=low, color=COLOURS[row["contender"]])
            ax.text(row[key], place, f" {row[key]:.3g}", va="center", fontsize=SMALL)
        elif "failure" in row:
            ax.text(low, place, " fails on this torch", va="center", fontsize=SMALL, color=GREY)
    ax.set_xscale("log")
    ax.set_xlim(low, 6 * max(known))
    ax.set_xlabel(label)
    ax.tick_params(labelsize=SMALL)
