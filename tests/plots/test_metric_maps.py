import math
from types import SimpleNamespace

import numpy as np
import pytest
from drawings import texts

from landscape.plots import plot_psi, plot_ranks, plot_tau_forest

NAN = math.nan


def judged(tau: float, psi: dict[str, float], information: float, sign_error: float, partial: float) -> SimpleNamespace:
    known = [value for value in psi.values() if math.isfinite(value)]
    mean = sum(known) / len(known) if known else NAN
    return SimpleNamespace(
        tau=tau, psi=psi, psi_mean=mean, information=information, sign_error=sign_error, partial=partial
    )


FOUND = {
    "lambda_max": judged(0.2, {"lr": 0.1, "seed": 0.3}, 0.02, 0.5, NAN),
    "trace": judged(-0.6, {"lr": -0.5, "seed": NAN}, 0.3, 0.9, -0.4),
    "renyi": judged(0.5, {"lr": 0.4, "seed": 0.6}, 0.2, 0.1, 0.3),
    "none": judged(NAN, {"lr": NAN, "seed": NAN}, NAN, NAN, NAN),
}


def cells(ax) -> dict[tuple[int, int], str]:
    return {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in ax.texts}


def test_psi_has_a_row_a_metric_and_the_mean_last():
    ax = plot_psi(FOUND)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["renyi", "lambda max", "trace", "none"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["lr", "seed", "mean"]
    assert cells(ax) == {
        (0, 0): "+0.40", (0, 1): "+0.60", (0, 2): "+0.50", (1, 0): "+0.10", (1, 1): "+0.30", (1, 2): "+0.20",
        (2, 0): "-0.50", (2, 2): "-0.50",
    }  # fmt: skip
    assert np.ma.getmaskarray(ax.images[0].get_array())[2, 1]  # hatched: no number
    assert ax.images[0].get_clim() == (-1, 1)
    assert texts(ax) == ["no value"]
    assert plot_psi({"renyi": FOUND["renyi"]}).get_legend() is None  # nothing is hatched
    ax.figure.canvas.draw()


def test_ranks_are_by_size_and_the_best_is_on_top():
    ax = plot_ranks(FOUND)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["trace", "renyi", "lambda max", "none"]
    shown = cells(ax)
    rows = [[shown.get((y, x), "") for x in range(5)] for y in range(4)]
    # trace and renyi share the first two places by |mean psi|; the sign error is best where it is low
    assert rows == [["1", "1.5", "1", "1", "3"], ["2", "1.5", "2", "2", "1"], ["3", "3", "3", "", "2"], [""] * 5]
    ax.figure.canvas.draw()


def test_the_forest_marks_what_is_sure_after_correction():
    found = {
        name: SimpleNamespace(tau=tau, low=tau - 0.1, high=tau + 0.1, p_corrected=p)
        for name, tau, p in (("a", 0.5, 0.01), ("b", 0.3, 0.05), ("c", -0.3, NAN))
    }
    ax = plot_tau_forest(found)
    assert [text.get_text().endswith("*") for text in ax.texts] == [False, False, True]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [dot.get_markerfacecolor() == "white" for dot in dots] == [True, True, False]
    assert texts(ax) == ["95 % interval, p < 0.05 for all metrics *", "p above", "chance"]
    assert ax.get_xlabel() == "Kendall's τ with the generalisation gap"


def test_the_forest_marks_rough_intervals():
    found = {
        name: SimpleNamespace(tau=tau, low=tau - 0.1, high=tau + 0.1, rough=rough)
        for name, tau, rough in (("a", 0.5, True), ("b", 0.3, False))
    }
    ax = plot_tau_forest(found)
    assert [text.get_text().endswith("rough") for text in ax.texts] == [False, True]
    solid, dashed = (bar.get_linestyle()[0][1] for bar in ax.collections)
    assert (solid is None, dashed is None) == (True, False)
    assert texts(ax) == ["95 % interval", "rough: fewer than 8 settings", "chance"]


@pytest.mark.parametrize(
    ("low", "high", "bands"), [(-0.9, -0.5, [(-0.9, -0.5), (0.5, 0.9)]), (-0.1, 0.5, [(-0.5, 0.5)]), (NAN, NAN, [])]
)
def test_the_reference_is_a_band_of_either_sign(low, high, bands):
    found = {
        "a": SimpleNamespace(tau=0.5, low=0.4, high=0.6),
        "train_loss": SimpleNamespace(tau=0.2, low=low, high=high),
    }
    ax = plot_tau_forest(found, reference="train_loss")
    assert [(band.get_x(), band.get_x() + band.get_width()) for band in ax.patches] == [pytest.approx(b) for b in bands]
    assert ("interval of train loss, either sign" in texts(ax)) == bool(bands)
    assert any("no interval" in text.get_text() for text in ax.texts) == (not bands)
    with pytest.raises(ValueError, match="reference must be one of"):
        plot_tau_forest(found, reference="none")


def test_nothing_to_show_is_named():
    for plot in (plot_psi, plot_ranks):
        with pytest.raises(ValueError, match="correlations must hold at least one metric"):
            plot({})
