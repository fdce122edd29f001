"""What a reader must know of a slice, in words, from the result itself: below the figure or in a paper's caption."""

from collections.abc import Mapping
from textwrap import fill
from typing import Any

from matplotlib.figure import Figure

from landscape.plots.style import GREY, SMALL, words
from landscape.storage.results import Slice1D, Slice2D, SliceBand

NORMALIZED = {
    "filter": "filter-normalised directions",
    "layer": "layer-normalised directions",
    "model": "directions with the network's norm",
    None: "directions not normalised",
}
BATCH_NORM = {
    "eval": "stored statistics",
    "batch": "each batch's statistics",
    "recompute": "statistics recomputed at each point",
}
WIDTH = 0.055  # inches a letter of the smallest size takes, about


def caption(slice: Slice1D | SliceBand | Slice2D, split: str | None = None) -> str:
    """One sentence: split and samples, directions, BatchNorm, seed, cosine, points and time; what is known of them.

    Args:
        slice: with its `details`, as `slice_1d` and `slice_2d` give them; unknown ones are left out.
        split: whose loss is shown; default all.
    """
    details = slice.details
    splits = [split] if split is not None else list(slice.loss)
    parts = [_split(name, details) for name in splits]
    if "normalize" in details:
        parts.append(NORMALIZED.get(details["normalize"], str(details["normalize"])))
    if details.get("ignore"):
        parts.append(
            {"bias_norm": "biases and norms held still"}.get(details["ignore"], f"{details['ignore']} ignored")
        )
    if "batch_norm" in details:
        parts.append(f"BatchNorm: {BATCH_NORM.get(details['batch_norm'], details['batch_norm'])}")
    parts += [f"{name} {details[name]}" for name in ("seed",) if details.get(name) is not None]
    if isinstance(slice, Slice2D):
        parts.append(f"cos(d1, d2) = {float(slice.cosine):.3f}")
    parts.append(_points(slice))
    if "seconds" in details:
        parts[-1] += f" in {_duration(float(details['seconds']))}"
    return "; ".join(parts) + "."


def add_caption(figure: Figure, text: str) -> None:
    """Write `text` below everything in the figure, broken into lines that fit its width."""
    letters = max(20, int(0.96 * figure.get_figwidth() / WIDTH))  # a margin of 2 % on either side
    figure.supxlabel(fill(text, letters), fontsize=SMALL, color=GREY, x=0.02, ha="left")


def _split(name: str, details: Mapping[str, Any]) -> str:
    units = details.get("units", {}).get(name)
    subset = ", a fixed subset" if details.get("subset") else ""
    return words(name) + (f" (N = {units:,g}{subset})" if units is not None else "")


def _points(slice: Slice1D | SliceBand | Slice2D) -> str:
    if isinstance(slice, Slice2D):
        return f"{len(slice.x)} × {len(slice.y)} points"
    lines = f"{len(next(iter(slice.loss.values())))} lines of " if isinstance(slice, SliceBand) else ""
    return f"{lines}{len(slice.x)} points"


def _duration(seconds: float) -> str:
    """In the unit that a reader takes in at a glance."""
    if seconds < 120:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
