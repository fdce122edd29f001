"""The diagnostics of a training as it runs, in the cell of a notebook that the loop runs in."""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from matplotlib.figure import Figure

from landscape.checks import require
from landscape.plots.training import KEYS, plot_diagnostics


class LiveFigure:
    """`plot_diagnostics` drawn anew in its place with every row that a `Tracker` tells it.

        ls.Tracker(problem, every=100, writer=ls.plots.LiveFigure())        # or that of a CurvatureCallback

    Args:
        name: what the run is called in the figure; a training rule's name has its colour.
        show: what is done with each new figure; default it takes the place of the last one in the notebook's output.
            Outside of a notebook pass one of your own: `lambda figure: ls.plots.save_figure(figure, "run/curvature")`.
    Raises:
        ValueError: if there is neither `show` nor IPython.
    """

    def __init__(self, name: str = "training", show: Callable[[Figure], Any] | None = None) -> None:
        require(
            show is not None or find_spec("IPython") is not None,
            "LiveFigure draws in a notebook, IPython is not there; pass show=, what to do with each figure",
        )
        self.name, self.show = name, show or _InPlace()
        self.rows: list[dict[str, Any]] = []

    def __call__(self, values: Mapping[str, Any], step: int) -> None:
        """One more row, {"curvature/lambda_max": ...}; those after `step`, of a run that has gone back, are dropped."""
        row = {tag.rpartition("/")[2]: value for tag, value in values.items()}
        self.rows = [old for old in self.rows if old["step"] < step]
        self.rows.append(dict.fromkeys(KEYS) | row | {"step": step})
        self.show(plot_diagnostics({self.name: self.rows}))


class _InPlace:
    """Shows the first figure and lets the next ones take its place."""

    def __init__(self) -> None:
        self.handle: Any = None

    def __call__(self, figure: Figure) -> None:
        notebook: Any = import_module("IPython.display")  # a notebook has it
        if self.handle is None:
            self.handle = notebook.display(figure, display_id=True)
        else:
            self.handle.update(figure)
