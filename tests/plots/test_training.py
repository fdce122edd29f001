import math

import numpy as np
import pytest

from landscape.plots import plot_diagnostics
from landscape.plots.style import RULES
from landscape.plots.training import PANELS

KEYS = [key for keys in PANELS.values() for key in keys]


def log(scale=1.0, count=5, **changes):
    return [
        {"step": 10 * t, "residual": 0.1 * scale} | {key: scale * (t + i) for i, key in enumerate(KEYS, 1)} | changes
        for t in range(1, count + 1)
    ]


def test_every_panel_shows_its_keys_in_the_runs_colours():
    logs = {"sam": log(), "mine": log(2.0)}
    figure = plot_diagnostics(logs)
    assert len(figure.axes) == len(PANELS) == 6
    for ax, (label, keys) in zip(figure.axes, PANELS.items(), strict=True):
        drawn = [np.asarray(line.get_ydata()).tolist() for line in ax.lines]
        assert drawn == [[row[key] for row in rows] for rows in logs.values() for key in keys]
        assert all(list(line.get_xdata()) == [10, 20, 30, 40, 50] for line in ax.lines)
        assert ax.get_ylabel() == label
        assert {line.get_color() for line in ax.lines[: len(keys)]} == {RULES["sam"][0]}
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(2 - 0.1)
    assert band[:, 1].max() == pytest.approx(6 + 0.1)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["sam", "mine"]
    figure.draw_without_rendering()


def test_what_the_optimiser_sees_stands_beside_its_threshold_where_it_was_measured():
    """And the trace with its error; a run without them is no hindrance, an infinite threshold a gap."""
    seen = [
        row | {"preconditioned": 20.0 + t, "preconditioned_residual": 2.0, "threshold": 380.0 if t else math.inf}
        for t, row in enumerate(log())
    ]
    figure = plot_diagnostics({"sam": seen, "sgd": log()})
    assert [ax.get_ylabel() for ax in figure.axes] == [*PANELS, "as the optimiser sees it"]
    lines = [np.asarray(line.get_ydata()) for line in figure.axes[6].lines]
    assert lines[0].tolist() == [20, 21, 22, 23, 24]
    assert np.isnan(lines[1][0])
    assert lines[1][1:].tolist() == [380] * 4
    assert np.isnan(lines[2]).all()
    band = figure.axes[6].collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (18, 26)
    figure.draw_without_rendering()
    traced = [row | {"trace": 7.0, "trace_stderr": 0.5} for row in seen]
    figure = plot_diagnostics({"sam": traced})
    assert [ax.get_ylabel() for ax in figure.axes[6:]] == ["as the optimiser sees it", "trace"]
    band = figure.axes[7].collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (6.5, 7.5)


def test_what_was_not_measured_is_a_gap():
    figure = plot_diagnostics({"sgd": log(e_alignment=None, gap=math.inf)})
    for ax, (label, keys) in zip(figure.axes, PANELS.items(), strict=True):
        for line, key in zip(ax.lines, keys, strict=True):
            assert np.isnan(line.get_ydata()).all() == (key in ("e_alignment", "gap")), (label, key)
    figure.draw_without_rendering()


def test_values_over_decades_are_on_a_logarithmic_axis():
    rows = [row | {"gradient_norm": 10.0**-t} for t, row in enumerate(log())]
    scales = {label: ax.get_yscale() for label, ax in zip(PANELS, plot_diagnostics({"sgd": rows}).axes, strict=True)}
    assert [label for label, scale in scales.items() if scale == "log"] == ["gradient norm"]


@pytest.mark.parametrize(
    ("logs", "message"),
    [
        ({}, "logs must hold at least one run, got none"),
        ({"sgd": []}, "run 'sgd' must have at least one row of diagnostics, got none"),
        ({"sgd": [{"step": 1, "loss": 2.0}]}, "run 'sgd': every row must have alignment, cosine, e_alignment, gap"),
    ],
)
def test_logs_without_diagnostics_are_named(logs, message):
    with pytest.raises(ValueError, match=message):
        plot_diagnostics(logs)
