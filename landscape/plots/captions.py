"""What a reader must know of a slice, in words, from the result itself: below the figure or in a paper's caption."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from landscape.plots.style import GREY, SMALL, words
from landscape.storage.results import Slice1D, Slice2D, SliceBand

NORMALIZED = {
    "filter": "filter-normalised directions",
    "layer": "layer-normalised directions",
    "model": "directions with the network's norm",
    None: "directions not normalised",
}
MATRICES = {"hessian": "Hessian", "ggn": "Gauss-Newton matrix", "fisher": "Fisher matrix"}
BATCH_NORM = {
    "eval": "stored statistics",
    "batch": "each batch's statistics",
    "recompute": "statistics recomputed at each point",
}
MARGIN = 0.02  # of the figure's width, on either side
LINE = 1.25 * SMALL  # points from line to line


def caption(slice: Slice1D | SliceBand | Slice2D, split: str | None = None) -> str:
    """One sentence: split and samples, directions, BatchNorm, seed, cosine and points; what is known of them.

    Args:
        slice: with its `details`, as `slice_1d` and `slice_2d` give them; unknown ones are left out.
        split: whose loss is shown; default all.
    """
    details = slice.details
    splits = [split] if split is not None else list(slice.loss)
    parts = [_split(name, details) for name in splits]
    if "eigenvalues" in details:
        values = ", ".join(f"{value:.4g}" for value in details["eigenvalues"])
        matrix = MATRICES.get(str(details.get("kind")), "curvature")
        parts.append(f"eigenvectors of the {matrix}, eigenvalues {values}")
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
    return "; ".join(parts) + "."


def add_caption(figure: Figure, text: str) -> None:
    """Write `text` below everything in the figure, in lines that fit its width; the figure grows by their height."""
    wide, high = figure.get_size_inches()
    lines = _wrapped(text, 72 * (1 - 2 * MARGIN) * wide)
    figure.set_size_inches(wide, high + (len(lines) + 1) * LINE / 72)
    figure.supxlabel("\n".join(lines), fontsize=SMALL, color=GREY, x=MARGIN, ha="left", linespacing=1.2)


def _wrapped(text: str, room: float) -> list[str]:
    """Lines of at most `room` points; a word that is longer stands alone."""
    font, measure = FontProperties(size=SMALL), TextToPath()
    lines: list[str] = []
    for paragraph in text.split("\n"):
        own = ""
        for word in paragraph.split():
            longer = f"{own} {word}".strip()
            if own and measure.get_text_width_height_descent(longer, font, ismath=False)[0] > room:
                lines.append(own)
                longer = word
            own = longer
        lines.append(own)
    return lines


def _split(name: str, details: Mapping[str, Any]) -> str:
    units = details.get("units", {}).get(name)
    subset = ", a fixed subset" if details.get("subset") else ""
    return words(name) + (f" (N = {units:,g}{subset})" if units is not None else "")


def _points(slice: Slice1D | SliceBand | Slice2D) -> str:
    if isinstance(slice, Slice2D):
        return f"{len(slice.x)} × {len(slice.y)} points"
    lines = f"{len(next(iter(slice.loss.values())))} lines of " if isinstance(slice, SliceBand) else ""
    return f"{lines}{len(slice.x)} points"
