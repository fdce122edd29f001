"""Contours at round numbers, logarithmic for a positive function over decades; what lies outside of them is named."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from landscape.checks import require
from landscape.plots.style import SMALL, match_fonts

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
DECADES = 6  # and so does one that is 0 up to rounding in the middle


def draw_contours(
    ax: Axes,
    x: Array,
    y: Array,
    z: Array,
    label: str,
    levels: Sequence[float] | None,
    vmin: float | None,
    vmax: float | None,
) -> list[Artist]:
    """Fill, lines, their labels and the colour bar of z (ny, nx).

    Returns:
        Legend entries for what is clipped.
    """
    finite = z[np.isfinite(z)]
    if levels is None:
        low, high = _limits(finite, vmin, vmax)
        steps = _levels(low, high)
    else:
        steps = np.asarray(levels, dtype=float)
        require(
            len(steps) > 1 and bool((np.diff(steps) > 0).all()), f"levels must be at least two and rise, got {levels}"
        )
    low, high = float(steps[0]), float(steps[-1])
    above, below = bool((finite > high).any()), bool((finite < low).any())
    logarithmic = _is_logarithmic(low, high)
    norm: Normalize = LogNorm(low, high) if logarithmic else Normalize(low, high)
    shown = np.ma.masked_invalid(z).clip(low / 2 if logarithmic else 2 * low - high, 2 * high - low)
    filled = ax.contourf(
        x,
        y,
        shown,
        levels=steps,
        norm=norm,
        cmap=colormaps["viridis"].with_extremes(over=ABOVE, under=BELOW),
        extend=("neither", "max", "min", "both")[above + 2 * below],
    )
    crossed = steps[(steps > shown.min()) & (steps < shown.max())]
    if crossed.size:
        lines = ax.contour(x, y, shown, levels=crossed, colors="black", linewidths=0.5, linestyles="solid", alpha=0.7)
        ax.clabel(lines, fmt=_number, fontsize=SMALL - 1)
    bar = ax.figure.colorbar(filled, ax=ax, label=label, ticks=steps, format=lambda value, _: _number(value))
    bar.ax.minorticks_off()
    match_fonts(bar.ax, ax)
    names = [(above, ABOVE, f"clipped above {_number(high)}"), (below, BELOW, f"clipped below {_number(low)}")]
    return [Patch(facecolor=color, edgecolor="0.6", linewidth=0.6, label=text) for on, color, text in names if on]


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


def _number(value: float) -> str:
    return f"{value:.3g}"
