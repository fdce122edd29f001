import numpy as np
import pytest

from landscape.plots import plot_seeds


def test_the_line_is_the_mean_and_the_band_holds_every_seed():
    ax = plot_seeds([0, 10], [[1.0, 2.0], [3.0, 6.0]], label="SAM", color="#0072B2")
    (line,), (band,) = ax.lines, ax.collections
    assert line.get_xdata().tolist() == [0, 10]
    assert line.get_ydata().tolist() == [2, 4]
    assert (line.get_label(), line.get_color()) == ("SAM", "#0072B2")
    corners = {tuple(point) for point in band.get_paths()[0].vertices.tolist()}
    assert corners == {(0, 1), (0, 3), (10, 2), (10, 6)}


def test_where_a_seed_has_no_number_there_is_a_gap():
    ax = plot_seeds([0, 1, 2], [[1.0, 1.0, 1.0], [1.0, np.inf, 1.0]])
    assert np.isnan(ax.lines[0].get_ydata()).tolist() == [False, True, False]


@pytest.mark.parametrize("values", [[1.0, 2.0], [[1.0, 2.0, 3.0]], np.empty((0, 2))])
def test_values_of_another_shape(values):
    with pytest.raises(ValueError, match=r"values must be \(seeds, 2\), one row a seed, got"):
        plot_seeds([0, 1], values)
