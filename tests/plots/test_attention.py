import numpy as np
import pytest

from landscape.plots import plot_attention
from landscape.plots.attention import FILL

WEIGHTS = [[0.4, 0.1], [0.0, 0.2], [0.1, 0.2]]


def sides(ax):
    (squares,) = ax.collections
    corners = [path.vertices for path in squares.get_paths()]
    return np.array([np.ptp(own, axis=0) for own in corners]), np.array([own[:4].mean(0) for own in corners])


def test_areas_are_in_the_proportion_of_attention_each_in_the_middle_of_its_patch():
    ax = plot_attention(WEIGHTS, np.arange(24.0).reshape(6, 4))
    size, middle = sides(ax)
    assert np.allclose(size.prod(1), FILL**2 * np.ravel(WEIGHTS) / 0.4)
    assert np.allclose(size[:, 0], size[:, 1])
    assert np.allclose(middle, [[column + 0.5, row + 0.5] for row in range(3) for column in range(2)])
    assert ax.images[0].get_extent() == [0, 2, 3, 0]  # the first row on top, for image and squares alike
    assert ax.get_ylim() == (3, 0)


def test_maps_on_one_scale_and_the_mean_over_channels():
    image = np.stack([np.zeros((3, 2)), np.full((3, 2), 2.0)])
    ax = plot_attention(WEIGHTS, image, largest=0.8)
    assert np.allclose(sides(ax)[0].prod(1), FILL**2 * np.ravel(WEIGHTS) / 0.8)
    assert (ax.images[0].get_array() == 1).all()


@pytest.mark.parametrize(
    ("attention", "image", "largest", "message"),
    [
        ([0.5, 0.5], np.ones((2, 2)), None, r"attention must be \(rows, columns\) of patches, got \(2,\)"),
        (WEIGHTS, np.ones(4), None, r"image must be \(H, W\) or \(channels, H, W\), got \(4,\)"),
        ([[0.5, -0.1]], np.ones((2, 2)), None, "attention must be finite and not negative"),
        ([[0.5, np.nan]], np.ones((2, 2)), None, "attention must be finite and not negative"),
        ([[0.0, 0.0]], np.ones((2, 2)), None, "attention must be above 0 somewhere"),
        (WEIGHTS, np.ones((2, 2)), 0.3, r"largest must be at least the largest attention 0\.4, got 0\.3"),
    ],
)
def test_what_cannot_be_drawn_is_refused(attention, image, largest, message):
    with pytest.raises(ValueError, match=message):
        plot_attention(attention, image, largest=largest)
