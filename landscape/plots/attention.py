"""Where a network's attention looks on an image: a square a patch, its area the share of attention."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from landscape.checks import require
from landscape.plots.style import RED, axes_or_new

FILL = 0.92  # side of the largest square, of a patch


def plot_attention(
    attention: ArrayLike, image: ArrayLike, ax: Axes | None = None, *, largest: float | None = None
) -> Axes:
    """The image in light greys, and on each patch a square whose area is proportional to the attention on it.

    Args:
        attention: on each patch, (rows, columns), not negative; of a class token: a row of `attention_weights`.
        image: (H, W) or (channels, H, W), whose mean over the channels is shown from its darkest to its brightest.
        ax: where to draw; default a new figure.
        largest: the attention that fills a patch; default the largest here. Maps that are compared need one for all.
    Raises:
        ValueError: if a shape is another, attention is negative or not finite or 0 everywhere, or above `largest`.
    """
    weights, pixels = np.asarray(attention, dtype=float), np.asarray(image, dtype=float)
    require(
        weights.ndim == 2 and weights.size > 0, f"attention must be (rows, columns) of patches, got {weights.shape}"
    )
    require(pixels.ndim in (2, 3), f"image must be (H, W) or (channels, H, W), got {pixels.shape}")
    require(bool(np.isfinite(weights).all() and weights.min() >= 0), "attention must be finite and not negative")
    top = float(weights.max()) if largest is None else float(largest)
    require(top > 0, f"attention must be above 0 somewhere, and largest above 0, got {top:g}")
    require(
        bool(weights.max() <= top), f"largest must be at least the largest attention {weights.max():g}, got {top:g}"
    )
    ax = axes_or_new(ax, 2.4, 2.4)
    rows, columns = weights.shape
    # in patches, so that squares are squares whatever the image's size
    shown = pixels.mean(0) if pixels.ndim == 3 else pixels
    ax.imshow(shown, cmap="gray", alpha=0.3, extent=(0, columns, rows, 0), interpolation="nearest")
    squares = []
    for row, column in np.ndindex(rows, columns):
        side = FILL * float(np.sqrt(weights[row, column] / top))
        squares.append(Rectangle((column + (1 - side) / 2, row + (1 - side) / 2), side, side))
    ax.add_collection(PatchCollection(squares, facecolor=RED, edgecolor="black", linewidth=0.6))
    ax.set(xticks=[], yticks=[], xlim=(0, columns), ylim=(rows, 0))
    return ax
