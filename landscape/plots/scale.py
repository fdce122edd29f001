"""One scale for contours, surfaces and pages: levels at round numbers, colours, and what lies outside of them.

Logarithmic for a positive loss over more than a factor of 3; where the loss explodes towards the corners, the colours
end at a hundred medians, and what is above is named.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from landscape.checks import require

Array = NDArray[Any]

ABOVE, BELOW = "0.97", "black"
STEPS: dict[float, tuple[float, ...]] = {  # decades covered, from: round numbers within one
    0.0: (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8),
    1.0: (1, 1.5, 2, 3, 5, 7),
    2.0: (1, 2, 5),
    4.0: (1, 3),
    7.0: (1,),
}
RATIO = 3.0  # from this on logarithmic
MEDIANS = 100.0  # a loss that explodes towards the corners leaves the colours to the rest
ROUNDED = 2e-3  # a level's label may be off by so much of it
DECADES = 6  # and so does one that is 0 up to rounding in the middle


@dataclass(frozen=True, eq=False)
class Scale:
    """Rising levels, and whether any value lies above the last or below the first."""

    levels: Array  # (n,)
    above: bool
    below: bool

    @property
    def low(self) -> float:
        return float(self.levels[0])

    @property
    def high(self) -> float:
        return float(self.levels[-1])

    @property
    def logarithmic(self) -> bool:
        return _is_logarithmic(self.low, self.high)

    @property
    def norm(self) -> Normalize:
        return LogNorm(self.low, self.high) if self.logarithmic else Normalize(self.low, self.high)

    @property
    def colors(self) -> Colormap:
        return colormaps["viridis"].with_extremes(over=ABOVE, under=BELOW)

    def clipped(self, z: Array) -> Array:
        """z where it is finite, masked elsewhere; brought close to the levels, but what is outside stays outside."""
        below = self.low / 2 if self.logarithmic else 2 * self.low - self.high
        return np.ma.masked_invalid(z).clip(below, 2 * self.high - self.low)

    def height(self, z: Array) -> Array:
        """How high z stands in 3D: log10 where the scale is, cut off at both ends; NaN where it is not finite."""
        inside = np.where(np.isfinite(z), np.clip(z, self.low, self.high), np.nan)
        return np.asarray(np.log10(inside) if self.logarithmic else inside)

    def legend(self) -> list[Patch]:
        """Entries for what is clipped."""
        names = [
            (self.above, ABOVE, f"clipped above {number(self.high)}"),
            (self.below, BELOW, f"clipped below {number(self.low)}"),
        ]
        return [Patch(facecolor=color, edgecolor="0.6", linewidth=0.6, label=text) for on, color, text in names if on]


def scale_of(
    values: Array, levels: Sequence[float] | None = None, vmin: float | None = None, vmax: float | None = None
) -> Scale:
    """The scale of these values.

    Args:
        values: any shape, of one network or of several to compare; at least one is finite.
        levels: rising; default round numbers from vmin to vmax.
        vmin: lower end; default the smallest value, where that is not negative at least 1e-6 of vmax.
        vmax: upper end; default the largest value, or about a hundred medians if that is less.
    Raises:
        ValueError: if vmin is not below vmax, or the levels do not rise.
    """
    finite = values[np.isfinite(values)]
    if levels is None:
        steps = _levels(*_limits(finite, vmin, vmax))
    else:
        steps = np.asarray(levels, dtype=float)
        require(
            len(steps) > 1 and bool((np.diff(steps) > 0).all()), f"levels must be at least two and rise, got {levels}"
        )
    return Scale(steps, above=bool((finite > steps[-1]).any()), below=bool((finite < steps[0]).any()))


def number(value: float) -> str:
    """As it stands at a contour and beside the colours: three digits, four where a level such as 1.675 needs them."""
    short = f"{value:.3g}"
    return short if abs(float(short) - value) <= ROUNDED * abs(value) else f"{value:.4g}"


def _limits(finite: Array, vmin: float | None, vmax: float | None) -> tuple[float, float]:
    smallest, largest = float(finite.min()), float(finite.max())
    high = largest if vmax is None else vmax
    if vmax is None and smallest >= 0 and (limit := MEDIANS * float(np.median(finite))) < largest:
        high = max(float(f"{limit:.0e}"), 10 * smallest) or largest
    low = smallest if vmin is None else vmin
    if vmin is None and smallest >= 0:
        low = max(smallest, high * 10.0**-DECADES)
    require(low <= high and (low < high or None in (vmin, vmax)), f"vmin must be below vmax, got {low:.4g}, {high:.4g}")
    return (low, high) if low < high else (low - 0.05 * abs(low) - 1e-12, high + 0.05 * abs(high) + 1e-12)


def _levels(low: float, high: float) -> Array:
    """Rising levels from `low` to `high`: the ends, and round numbers between them."""
    if _is_logarithmic(low, high):
        decades = np.log10(high / low)
        factors = next(own for start, own in reversed(STEPS.items()) if decades >= start)
        powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)))
        margin = (high / low) ** 0.04
        between, first, last = np.outer(powers, factors).ravel(), low * margin, high / margin
    else:
        margin = 0.04 * (high - low)
        between, first, last = np.asarray(MaxNLocator(12).tick_values(low, high)), low + margin, high - margin
    return np.concatenate([[low], between[(between > first) & (between < last)], [high]])


def _is_logarithmic(low: float, high: float) -> bool:
    return low > 0 and high / low > RATIO
