import math

import numpy as np
import pytest
import torch

from landscape.plots import plot_block_spectra
from landscape.storage.results import BlockSpectra


def result(values, *, residual=0.1, sizes=(4, 2, 10)) -> BlockSpectra:
    count = len(values)
    first = torch.tensor(values, dtype=torch.float64)
    return BlockSpectra(
        names=["embedding", "", "head"][:count],
        sizes=torch.tensor(sizes[:count]),
        values=torch.stack([first, first / 2], dim=1),
        residuals=torch.full((count, 2), residual, dtype=torch.float64),
        converged=torch.ones(count, 2, dtype=torch.bool),
        trace=2 * first,
        trace_stderr=torch.full((count,), 0.25, dtype=torch.float64),
        matvecs=torch.full((count,), 9),
        passes=7,
    )


def drawn(ax):
    """Bars' rows and lengths; whatever warns while drawing is an error here."""
    ax.figure.draw_without_rendering()
    return {round(bar.get_y() + bar.get_height() / 2): bar.get_width() for bar in ax.patches}


def ends(ax):
    """Ends of the error bars, (n, 2)."""
    (errors,) = ax.containers[-1].lines[2]
    return np.array([segment[:, 0] for segment in errors.get_segments()])


@pytest.mark.parametrize(
    ("quantity", "bars", "error", "label"),
    [
        ("eigenvalue", [3.0, -1.0, 2.0], [0.1] * 3, "leading eigenvalue"),
        ("trace", [6.0, -2.0, 4.0], [0.5] * 3, "trace"),
        ("mean", [1.5, -1.0, 0.4], [0.125, 0.25, 0.05], "trace / parameters"),
    ],
)
def test_one_bar_a_block_with_its_error_the_first_on_top(quantity, bars, error, label):
    ax = plot_block_spectra(result([3.0, -1.0, 2.0]), quantity=quantity)
    assert list(drawn(ax).values()) == pytest.approx(bars)
    assert ends(ax).mean(1) == pytest.approx(bars)
    assert np.ptp(ends(ax), axis=1) / 2 == pytest.approx(error)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["embedding", "(root)", "head"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    assert (ax.get_xlabel(), ax.get_xscale()) == (label, "linear")
    assert ax.patches[0].get_facecolor() != ax.patches[1].get_facecolor()  # a negative one is told apart


def test_values_over_decades_are_logarithmic_and_error_bars_stay_on_the_axis():
    ax = plot_block_spectra(result([0.01, 1.0, 100.0], residual=0.1))
    drawn(ax)
    assert ax.get_xscale() == "log"
    assert (ends(ax) > 0).all()
    assert not ax.patches  # the length of a bar on a logarithmic axis says nothing
    assert ax.collections[0].get_offsets()[:, 0].tolist() == [0.01, 1.0, 100.0]


def test_a_value_that_is_not_finite_is_named_and_not_drawn():
    ax = plot_block_spectra(result([1.0, math.nan, 2.0]))
    assert drawn(ax) == pytest.approx({0: 1.0, 2: 2.0})
    assert [text.get_text() for text in ax.texts] == ["not finite"]


def test_it_draws_on_given_axes():
    ax = plot_block_spectra(result([1.0]))
    assert plot_block_spectra(result([2.0, 3.0]), ax) is ax


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"quantity must be one of .* got 'size'"):
        plot_block_spectra(result([1.0]), quantity="size")
    with pytest.raises(ValueError, match="result must hold a finite leading eigenvalue at least once, got none"):
        plot_block_spectra(result([math.nan]))
