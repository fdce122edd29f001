"""What all figures share: sizes for a paper's column, colours that colour-blind readers tell apart, and saving.

Figures are made by objects alone, without pyplot: nothing stays open, nothing global changes.
Colours: Okabe and Ito 2008, "Color universal design".
"""

import re
from collections.abc import Sequence
from math import log10
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from landscape.checks import one_of, positive
from landscape.storage.atomic import replacing
from landscape.storage.results import Result

BLUE, RED, GREY = "#0072B2", "#D55E00", "#595959"
RULES = {  # one colour and one marker per training rule, the same in every figure
    "sgd": ("#000000", "o"),
    "sam": (BLUE, "s"),
    "asam": ("#E69F00", "^"),
    "fisher_sam": ("#009E73", "D"),
    "gsam": (RED, "v"),
    "eigen_sam": ("#CC79A7", "P"),
}
OTHERS = [("#56B4E9", "X"), ("#8C6D00", "<"), ("#6A3D9A", ">"), ("#595959", "*"), ("#8B1A1A", "p"), ("#1B7837", "h")]
SPLITS = {"train": "-", "test": "--"}
SMALL = 7.5  # points; legends and labels inside the axes
HATCH: dict[str, Any] = {
    "facecolor": "0.93",
    "edgecolor": "0.55",
    "hatch": "////",
    "linewidth": 0.0,
}  # where there is no finite value
STAR: dict[str, Any] = {"marker": "*", "ms": 11, "mfc": "white", "mec": "black", "ls": ""}  # the network itself
WIDTHS = {"column": 3.3, "page": 6.8}  # inches, of a paper in two columns
LOOKS = (None, "li2018")  # ours, or that of the authors' figures
STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.labelsize": 9.0,
    "axes.titlesize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "axes.linewidth": 0.7,
}
_METADATA: dict[str, dict[str, Any]] = {  # no dates and versions: the same figure is the same file
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    "svg": {"Creator": None, "Date": None},
}


def save_figure(
    figure: Figure,
    path_stem: str | Path,
    formats: Sequence[str] = ("png", "pdf"),
    dpi: int = 180,
    *,
    width: float | str | None = None,
) -> list[Path]:
    """Write the figure as PATH_STEM.png, PATH_STEM.pdf, each in one rename; the same figure gives the same bytes.

    Args:
        figure: such as `plot_density(density).figure`.
        path_stem: where to, without a suffix.
        formats: of "png", "pdf" and "svg".
        dpi: dots per inch of the PNG.
        width: inches, or "column" (3.3) or "page" (6.8) of a paper, height in proportion, text as large as it is; from
            then on the figure's. Default as it is. A caption is wrapped by `add_caption`, for the width it finds.
    Returns:
        The paths written.
    Raises:
        ValueError: if a format is unknown, or the width is unknown or not positive.
    """
    for kind in formats:
        one_of("formats", kind, tuple(_METADATA))
    if width is not None:
        _resize(figure, width)
    stem = Path(path_stem)
    written = []
    with matplotlib.rc_context({"svg.hashsalt": "landscape", "pdf.fonttype": 42}):
        for kind in formats:
            target = stem.with_name(f"{stem.name}.{kind}")
            with replacing(target) as partial:
                figure.savefig(partial, format=kind, dpi=dpi, metadata=_METADATA[kind])
            written.append(target)
    return written


def _resize(figure: Figure, width: float | str) -> None:
    if isinstance(width, str):
        one_of("width", width, tuple(WIDTHS))
        width = WIDTHS[width]
    positive("width", width)
    wide, high = figure.get_size_inches()
    figure.set_size_inches(width, high * width / wide)


def save_with_data(
    figure: Figure, result: Result, path_stem: str | Path, formats: Sequence[str] = ("png", "pdf"), **manifest: Any
) -> list[Path]:
    """The figure with the numbers it shows: `save_figure`, and the result as PATH_STEM.npz and PATH_STEM.json.

    Args:
        figure: such as `plot_slice_2d(found).figure`.
        result: what it shows.
        path_stem: where to, without a suffix.
        formats: as in `save_figure`.
        manifest: as in `Result.save`.
    Returns:
        The paths written, the .npz last.
    Raises:
        ValueError: if a format is unknown; nothing is written then.
    """
    stem = Path(path_stem)
    return [*save_figure(figure, stem, formats), result.save(stem.with_name(f"{stem.name}.npz"), **manifest)]


def axes_or_new(ax: Axes | None, width: float = 4.8, height: float = 3.2, **kind: Any) -> Axes:
    """`ax`, or the axes of a new figure of this size in inches; `kind` as in `Figure.add_subplot`."""
    if ax is not None:
        return ax
    with matplotlib.rc_context(STYLE):
        return Figure(figsize=(width, height), layout="compressed").add_subplot(**kind)


def look(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each name: rules ("fisher_sam", "Fisher SAM") have their own, others take turns."""
    rules = {name: RULES.get(re.sub(r"\W", "_", name.lower())) for name in names}
    others = [name for name, rule in rules.items() if rule is None]
    turns = {name: OTHERS[index % len(OTHERS)] for index, name in enumerate(others)}
    return {name: rule or turns[name] for name, rule in rules.items()}


def line_style(split: str) -> Any:
    """Train solid, test dashed, others dotted."""
    return SPLITS.get(split, ":")


def legend_above(ax: Axes, handles: Sequence[Artist] | None = None, columns: int = 4) -> None:
    """A legend outside, above the axes, where it hides nothing."""
    shown = list(handles) if handles is not None else ax.get_legend_handles_labels()[0]
    if shown:
        ax.legend(
            handles=shown,
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=min(columns, len(shown)),
            fontsize=SMALL,
            frameon=False,
        )


def match_fonts(ax: Axes, like: Axes) -> None:
    """Give a twin axis or a colour bar the font sizes of the axes it belongs to."""
    for text in like.xaxis.get_ticklabels()[:1]:
        ax.tick_params(labelsize=text.get_fontsize())
    ax.yaxis.label.set_fontsize(like.xaxis.label.get_fontsize())


def or_gap(values: NDArray[Any]) -> NDArray[Any]:
    """NaN for infinities too: a gap in the line."""
    return np.where(np.isfinite(values), values, np.nan)


def spans_decades(values: NDArray[Any], decades: float) -> bool:
    """Whether the finite values are positive and spread over more than so many decades."""
    finite = values[np.isfinite(values)]
    return bool(finite.size and finite.min() > 0 and log10(finite.max()) - log10(finite.min()) > decades)


def words(name: str) -> str:
    """A key as a label: "test_loss" to "test loss"."""
    return name.replace("_", " ")
