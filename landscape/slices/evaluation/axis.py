"""The points of an axis: a range given as (first, last, how many), or found from the loss."""

from collections.abc import Callable

import torch
from torch import Tensor

from landscape.checks import integer_in, require

Range = tuple[float | int, float | int, int]  # first, last, how many
AUTOMATIC = "auto"
POINTS = 51  # of an automatic range, as Li et al. 2018 have it


def axis(name: str, span: Range | str, reach: Callable[[], float] | None = None) -> Tensor:
    """(n,) float64, first and last as given; exactly 0 in the middle of a symmetric range.

    Args:
        name: for messages.
        span: (first, last, how many), or "auto" for 51 points from -reach() to reach().
        reach: half the width of an automatic range; None where there is none.
    Raises:
        ValueError: if the range is empty.
    """
    if span == AUTOMATIC and reach is not None:
        far = reach()
        span = (-far, far, POINTS)
    options = " or 'auto'" if reach is not None else ""
    if isinstance(span, str) or len(span) != 3:
        raise ValueError(f"{name} must be (first, last, points){options}, got {span!r}")
    low, high, points = span
    integer_in(f"{name}: the number of points", points, 1)
    require(-torch.inf < low < high < torch.inf, f"{name} must rise from first to last, got {low} to {high}")
    index = torch.arange(points, dtype=torch.float64, device="cpu")
    found = (low * index.flip(0) + high * index) / max(points - 1, 1)
    found[-1], found[0] = high, low
    return found
