"""The figure of rule_table.py: a row a rule, the smallest error at equal gradients on top."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis_scripts.training.rule_report import edges_of
from landscape.plots.style import BLUE, RED, legend_above

BUDGETS = {"gradients": (BLUE, "o", -0.14), "epochs": (RED, "s", 0.14)}  # colour, marker, place in the row


def draw(rows: Sequence[dict[str, Any]], base: str) -> Figure:
    """Test error with its interval, λmax with its range, time a step; a line where the first variant is."""
    figure = Figure(figsize=(8.4, 1.0 + 0.25 * len(rows)), layout="compressed")
    left, middle, right = figure.subplots(1, 3, sharey=True, width_ratios=(3, 2, 1.4))
    first = next(own for own in rows if own["name"] == base)
    for budget, (color, marker, shift) in BUDGETS.items():
        places = [index + shift for index in range(len(rows))]
        bars(left, [[100 * x for x in own[budget]["error"]] for own in rows], places, color, marker, f"equal {budget}")
        bars(middle, [own[budget]["lambda_max"] for own in rows], places, color, marker)
        for ax, value in ((left, 100 * first[budget]["error"][0]), (middle, first[budget]["lambda_max"][0])):
            ax.axvline(value, color=color, linewidth=0.7, linestyle=":")
    right.barh(range(len(rows)), [own["ms_a_step"] for own in rows], color="0.75", height=0.6)
    left.set_yticks(range(len(rows)), [own["name"] + "*" * bool(edges_of(own)) for own in rows])
    left.invert_yaxis()
    left.set(xlabel="test error (%), mean and 95 % interval", ylim=(len(rows) - 0.4, -0.6))
    middle.set(xlabel="λmax, median and range", xscale="log")
    right.set(xlabel="time a step (ms)")
    for ax in (left, middle, right):
        ax.grid(axis="y", color="0.93", linewidth=0.6)
        ax.set_axisbelow(True)
    legend_above(left, columns=2)
    return figure


def bars(
    ax: Axes, found: Sequence[Sequence[float]], places: Sequence[float], color: str, marker: str, label: str = ""
) -> None:
    """A marker at the middle, a line from the lower to the upper end."""
    ax.hlines(places, [own[1] for own in found], [own[2] for own in found], color=color, linewidth=1.1)
    ax.plot([own[0] for own in found], places, marker, color=color, markersize=3.6, label=label or None)
