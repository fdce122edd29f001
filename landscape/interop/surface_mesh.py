"""A loss surface as a mesh: heights over the grid, and the cells all of whose corners are finite."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.checks import one_of, require
from landscape.storage.results import Slice2D

Array = NDArray[Any]


def heights(surface: Slice2D, split: str, scale: str) -> Array:
    """Loss, or its decimal logarithm, (ny, nx) float64; NaN where that is not finite, a loss <= 0 on the log scale too.

    Raises:
        ValueError: if split or scale is unknown, or the grid has no cell.
    """
    one_of("split", split, tuple(surface.loss))
    one_of("scale", scale, ("log", "linear"))
    loss = surface.loss[split].detach().cpu().double().numpy()
    require(min(loss.shape) >= 2, f"a surface needs at least 2 points along each axis, got {loss.shape} (ny, nx)")
    shown = np.log10(np.where(loss > 0, loss, np.nan)) if scale == "log" else loss
    return np.where(np.isfinite(shown), shown, np.nan)


def finite_cells(z: Array) -> NDArray[np.bool_]:
    """Whether all four corners are finite, (ny - 1, nx - 1)."""
    finite = np.isfinite(z)
    return finite[:-1, :-1] & finite[:-1, 1:] & finite[1:, 1:] & finite[1:, :-1]


def corners(cells: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Flat grid indices of the chosen cells' corners, counter-clockwise seen from above, (m, 4)."""
    row, column = np.nonzero(cells)
    width = cells.shape[1] + 1
    first = row * width + column
    return np.stack([first, first + 1, first + width + 1, first + width], axis=1)
