"""The benchmark's figure: what each package's answer costs and how far off it is."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from landscape.plots import save_figure
from landscape.plots.style import BLUE, GREY, RED, SMALL

COLOURS = {"ours": BLUE, "pyhessian": RED, "curvlinops": GREY}
MARKERS = {"ours": "o", "pyhessian": "s", "curvlinops": "^"}
NOTE: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": SMALL, "color": GREY}
BESIDE: dict[str, Any] = {"xytext": (6, 0), "textcoords": "offset points", "va": "center", "fontsize": SMALL}
NAMES = {"ours": "landscape", "pyhessian": "PyHessian", "curvlinops": "curvlinops"}


def draw(rows: list[dict[str, Any]], stem: Path) -> list[Path]:
    """Gradient-times and errors of each question, a mark a package; what failed is said where its mark would be."""
    figure = Figure(figsize=(6.8, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    questions = list(dict.fromkeys(row["question"] for row in rows))
    _marks(left, rows, questions, "gradient_times", "cost, in gradients of the loss")
    _marks(right, [row for row in rows if row["question"] != "density"], questions, "error", "largest relative error")
    right.text(
        0.5, questions.index("density"), "no one number to compare", transform=right.get_yaxis_transform(), **NOTE
    )
    left.set_yticks(range(len(questions)), questions)
    left.invert_yaxis()
    handles = [Line2D([], [], **_look(name), label=NAMES[name]) for name in COLOURS]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize=SMALL)
    return save_figure(figure, stem)


def _marks(ax: Axes, rows: list[dict[str, Any]], questions: list[str], key: str, label: str) -> None:
    known = [row[key] for row in rows if row.get(key)]
    for row in rows:
        place = questions.index(row["question"]) + 0.27 * (list(COLOURS).index(row["contender"]) - 1)
        if row.get(key):
            ax.plot(row[key], place, **_look(row["contender"]))
            ax.annotate(f"{row[key]:.2g}" if row[key] < 1 else f"{row[key]:.0f}", (row[key], place), **BESIDE)
        elif "failure" in row:
            ax.text(
                0.5, place, f"{NAMES[row['contender']]} fails on this torch", transform=ax.get_yaxis_transform(), **NOTE
            )
    ax.set_xscale("log")
    ax.set_xlim(min(known) / 2, 8 * max(known))  # room for the number beside the last mark
    ax.set_xlabel(label)
    ax.grid(axis="x", linewidth=0.4, alpha=0.5)
    ax.tick_params(labelsize=SMALL)


def _look(name: str) -> dict[str, Any]:
    return {"color": COLOURS[name], "marker": MARKERS[name], "markersize": 5, "linestyle": ""}
