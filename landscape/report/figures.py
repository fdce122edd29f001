"""The figures of a study, from its saved results; one network stands for each rule, the first in the table.

What a study did not compute (slices, densities, the log of a training run) has no figure.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.plots import (
    plot_density,
    plot_slice_1d,
    plot_slices_2d,
    plot_training,
    save_figure,
)
from landscape.plots.planes import draw_slices_2d
from landscape.plots.style import STYLE, look, words
from landscape.report.alternatives import of_density, of_line, of_plane
from landscape.report.evidence import Evidence
from landscape.report.metric_figures import MANY, Drawn, against_gap, forest, given, psi, ranks, scatter
from landscape.report.panels import panels, share_limits, without_legends
from landscape.report.wording import tau
from landscape.storage.results import Slice1D, Slice2D
from landscape.study.network_record import DENSITY, LINE, PLANE, load_density
from landscape.training import read_log

LOG = "log.jsonl"
GROUPS = 9  # rules, of each of which one network is shown
FINE, COARSE = 180, 130  # dots per inch


@dataclass(frozen=True)
class FigureFile:
    """A figure on disk with what a reader must know of it."""

    title: str
    caption: str
    path: Path  # the PNG; a PDF lies beside it
    alt: str  # what it shows, for those who do not see it


def study_figures(evidence: Evidence, folders: Mapping[str, Path], out: Path) -> list[FigureFile]:
    """Draw all figures of a study into `out`.

    Args:
        evidence: what the study found.
        folders: row name to the folder of what is kept of the network.
        out: folder for the files.
    Returns:
        The figures in the order in which a reader wants them.
    """
    rows = evidence.rows
    shown: dict[str, Path] = {}
    for row in rows:
        shown.setdefault(str(row.get(evidence.group, "")), folders[row["name"]])
    with matplotlib.rc_context(STYLE):
        drawn = list(_drawn(evidence, dict(list(shown.items())[:GROUPS])))
        return save_all(drawn, out, FINE if len(evidence.correlations) <= MANY else COARSE)


def save_all(drawn: Iterable[Drawn], out: Path, dpi: int = FINE) -> list[FigureFile]:
    """Each figure as PNG and PDF in `out`."""
    files = []
    for one in drawn:
        saved = save_figure(one.figure, out / one.stem, dpi=dpi)
        png = next(path for path in saved if path.suffix == ".png")
        files.append(FigureFile(one.title, one.caption, png, one.alt))
    return files


def _drawn(evidence: Evidence, shown: Mapping[str, Path]) -> Iterator[Drawn]:
    """Every figure for which there are results, the answer first."""

    def there(file: str) -> bool:
        return all((folder / file).exists() for folder in shown.values())

    yield forest(evidence)
    if any(isfinite(own.partial_low) for own in evidence.correlations.values()):
        yield given(evidence)
    if there(PLANE) and there(DENSITY) and len(shown) > 1:
        yield _overview(evidence, shown)
    yield scatter(evidence)
    if evidence.axes:
        yield psi(evidence)
    yield ranks(evidence)
    if there(DENSITY):
        yield _spectra(shown)
    if there(PLANE):
        yield _planes(shown, "train")
        yield _planes(shown, "test")
    if there(LINE):
        yield _lines(shown)
    if there(LOG):
        yield _curves(shown)


def _overview(evidence: Evidence, shown: Mapping[str, Path]) -> Drawn:
    """Two planes on one scale, their spectra, and the question: the picture for the README."""
    first, second = ([rule for rule in ("sgd", "sam") if rule in shown] + list(shown))[:2]
    pair = {first: shown[first], second: shown[second]}
    figure = Figure(figsize=(7.6, 6.0), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.0, 0.95)).ravel()
    planes = [Slice2D.load(folder / PLANE) for folder in pair.values()]
    draw_slices_2d(above, planes, [words(rule) for rule in pair])
    spectra, gaps = below.subplots(1, 2)
    _densities(pair, spectra)
    spectra.set_title("Hessian spectrum")
    metric = "lambda_max" if "lambda_max" in evidence.correlations else evidence.best
    found = evidence.correlations[metric]
    against_gap(evidence, metric, gaps)
    caption = (
        f"Above: the training loss on a plane of two filter-normalised random directions, {words(first)} and "
        f"{words(second)} on one colour scale. Below: their Hessian spectra with a band of two standard errors, and "
        f"{words(metric)} of every network against its generalisation gap."
    )
    alt = f"{_of_planes(pair, planes)} {_of_spectra(pair)} {words(metric)} with the gap: tau {tau(found)}."
    return Drawn("overview", "Overview", caption, alt, figure)


def _spectra(shown: Mapping[str, Path]) -> Drawn:
    probes, steps = load_density(next(iter(shown.values()))).nodes.shape
    bandwidth = _bandwidth(shown)

    def draw(rule: str, ax: Axes) -> None:
        plot_density(load_density(shown[rule]), ax, bandwidth=bandwidth, color=look([rule])[rule][0])
        ax.set_title(words(rule))

    caption = (
        f"Density of the Hessian's eigenvalues by stochastic Lanczos quadrature, {probes} probes of {steps} steps, "
        f"smoothed by a Gaussian of standard deviation {bandwidth:.2g}, with a band of two standard errors over the "
        "probes on the logarithmic scale; one pair of axes for all."
    )
    figure = panels(list(shown), draw)
    without_legends(figure)  # the caption says it
    share_limits(figure)
    return Drawn("spectra", "Hessian spectra", caption, _of_spectra(shown), figure)


def _planes(shown: Mapping[str, Path], split: str) -> Drawn:
    planes = [Slice2D.load(folder / PLANE) for folder in shown.values()]
    sample = planes[0]
    what = "training loss (on the labels trained on)" if split == "train" else "test loss"
    caption = (
        f"The {what} on a plane through each network (the star), {len(sample.x)} × {len(sample.y)} points, along the "
        "same two random directions, filter-normalised as Li et al. 2018 have it: 1 moves every filter by its own "
        f"norm. One colour scale; cosine between the directions {float(sample.cosine):.3f}."
    )
    figure = plot_slices_2d(planes, [words(rule) for rule in shown], split)
    return Drawn(f"planes_{split}", f"Loss surfaces, {split}", caption, _of_planes(shown, planes, split), figure)


def _lines(shown: Mapping[str, Path]) -> Drawn:
    lines = {rule: Slice1D.load(folder / LINE) for rule, folder in shown.items()}

    def draw(rule: str, ax: Axes) -> None:
        plot_slice_1d(lines[rule], ax)
        ax.set_yscale("log")
        ax.set_title(words(rule))

    caption = "Loss (left axis, blue) and accuracy (right, red) along the first direction; train solid, test dashed."
    figure = panels(list(shown), draw, legend=True)
    share_limits(figure)
    alt = f"Training loss along a line. {' '.join(of_line(words(rule), line) for rule, line in lines.items())}"
    return Drawn("lines", "Loss along one direction", caption, alt, figure)


def _curves(shown: Mapping[str, Path]) -> Drawn:
    logs = {rule: read_log(folder) for rule, folder in shown.items()}

    def draw(key: str, ax: Axes) -> None:
        plot_training(logs, ax, key=key)

    caption = "Loss and accuracy over the epochs; training values are means over the epoch's batches as they were met."
    keys = ["train_loss", "test_loss", "train_accuracy", "test_accuracy"]
    last = {rule: log[-1] for rule, log in logs.items()}
    told = (f"{words(rule)}: {end['train_loss']:.3g} and {end['test_loss']:.3g}" for rule, end in last.items())
    alt = f"Curves over the epochs. Training and test loss at the end: {'; '.join(told)}."
    return Drawn("training", "Training", caption, alt, panels(keys, draw, columns=2, legend=True))


def _of_planes(shown: Iterable[str], planes: Iterable[Slice2D], split: str = "train") -> str:
    told = " ".join(of_plane(words(rule), plane, split) for rule, plane in zip(shown, planes, strict=True))
    return f"Contours of the {split} loss. {told}"


def _of_spectra(shown: Mapping[str, Path]) -> str:
    told = (of_density(words(rule), load_density(folder)) for rule, folder in shown.items())
    return f"Densities of eigenvalues. {' '.join(told)}"


def _densities(shown: Mapping[str, Path], ax: Axes) -> None:
    for rule, folder in shown.items():
        color, bandwidth = look([rule])[rule][0], _bandwidth(shown)
        plot_density(load_density(folder), ax, label=words(rule), color=color, bandwidth=bandwidth)
    handles = [line for line in ax.get_lines() if not str(line.get_label()).startswith("_")]
    ax.legend(handles=handles, loc="upper right", frameon=False)


def _bandwidth(shown: Mapping[str, Path]) -> float:
    """1 % of what all spectra span."""
    nodes = [load_density(folder).nodes for folder in shown.values()]
    return 0.01 * float(max(n.max() for n in nodes) - min(n.min() for n in nodes))
