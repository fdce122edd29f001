import sys
from types import ModuleType

import pytest
from cases import make

import landscape as ls
from landscape.plots import LiveFigure


def tracked(writer, steps=4):
    tracker = ls.Tracker(make("mlp").problem(), every=2, matvecs=2, writer=writer)
    for _ in range(steps):
        tracker.step()
    return tracker


def drawn(figure):
    return figure.axes[0].lines[0].get_ydata().tolist()


def test_each_row_gives_a_figure_of_all_so_far():
    shown = []
    tracker = tracked(LiveFigure("sam", show=shown.append))
    values = [row.lambda_max for row in tracker.rows]
    assert [drawn(figure) for figure in shown] == [values[:1], values]
    assert [text.get_text() for text in shown[0].legends[0].get_texts()] == ["sam"]


def test_a_run_that_goes_back_drops_what_came_after():
    shown = []
    live = LiveFigure(show=shown.append)
    for step in (10, 20, 30, 20):
        live({"curvature/lambda_max": float(step), "curvature/residual": 0.1}, step)
    assert drawn(shown[-1]) == [10, 20]


class Display:
    """What IPython's display does with figures."""

    def __init__(self):
        self.calls = []

    def display(self, figure, display_id=None):
        self.calls.append(("display", figure, display_id))
        return self

    def update(self, figure):
        self.calls.append(("update", figure, None))


def test_in_a_notebook_the_next_figure_takes_the_place_of_the_last(monkeypatch):
    notebook, own = Display(), ModuleType("IPython.display")
    own.display = notebook.display
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", own)
    monkeypatch.setattr("landscape.plots.live.find_spec", lambda name: name)
    tracker = tracked(LiveFigure(), steps=6)
    assert [(what, where) for what, _, where in notebook.calls] == [
        ("display", True),
        ("update", None),
        ("update", None),
    ]
    assert drawn(notebook.calls[-1][1]) == [row.lambda_max for row in tracker.rows]


def test_without_a_notebook_it_asks_for_a_way_to_show(monkeypatch):
    monkeypatch.setattr("landscape.plots.live.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="IPython is not there; pass show="):
        LiveFigure()
