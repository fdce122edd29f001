"""`landscape slice`: the loss surface of one network, data and figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import click
import torch
from matplotlib.figure import Figure

from landscape.checks import integer_in, one_of, positive, require
from landscape.cli.eigenvectors import PREFIX, directions_of, vectors_in
from landscape.cli.source import FOLDER, LARGEST_SEED, Source, source_options
from landscape.plots import add_caption, caption, plot_slice_2d, plot_surface, save_figure, save_interactive
from landscape.plots.style import LOOKS
from landscape.problem import Problem
from landscape.report.study import writable
from landscape.slices import Directions, check_slice, random_directions, slice_2d
from landscape.slices.directions.normalization import NORMALIZATIONS
from landscape.slices.evaluation.axis import AUTOMATIC, POINTS, Range
from landscape.storage.results import Slice2D

PATH = click.Path(path_type=Path)
DEFAULTS: dict[str, Any] = {"normalize": "filter", "ignore": "bias_norm", "seed": 0}  # of random directions


def _names(options: Sequence[str | None]) -> list[str]:
    return [option or "none" for option in options]


@click.command("slice")
@source_options
@click.option("--out", type=FOLDER, default=None, help="Where to; default RUN, or here.")
@click.option("--points", type=int, default=51, show_default=True, help="Along each axis.")
@click.option(
    "--reach",
    default="1",
    show_default=True,
    help="Half the width, in norms of the directions; 'auto' is where the loss has grown tenfold.",
)
@click.option("--subset", type=int, default=None, help="Use so many samples of each split, with a standard error.")
@click.option("--workers", type=int, default=1, show_default=True, help="Processes that share the points.")
@click.option("--seed", type=int, default=DEFAULTS["seed"], show_default=True)
@click.option(
    "--normalize", type=click.Choice(_names(NORMALIZATIONS)), default=DEFAULTS["normalize"], show_default=True
)
@click.option("--ignore", type=click.Choice(["bias_norm", "none"]), default=DEFAULTS["ignore"], show_default=True)
@click.option(
    "--directions",
    "along",
    type=PATH,
    default=None,
    metavar="FOLDER",
    help="The first two eigenvectors that landscape spectrum has left there, in place of random directions; a step of "
    "1 changes the quadratic model of the loss by 1.",
)
@click.option("--split", "chosen", multiple=True, help="Only this split, such as train; can be repeated.")
@click.option("--style", type=click.Choice(_names(LOOKS)), default="none", show_default=True, help="Of the contours.")
@click.option("--surface", is_flag=True, help="Also a surface in 3D.")
@click.option(
    "--caption", "told", type=click.Choice(["on", "off"]), default="on", help="Below the figures; off for papers."
)
@click.option("--html", is_flag=True, help="Also a page to turn it around; landscape view sets several side by side.")
@click.option(
    "--check", is_flag=True, help="Say in words whether the plot is right; of a finished one where it exists."
)
def slice_command(
    source: Source, out: Path | None, chosen: tuple[str, ...], check: bool, along: Path | None, **settings: Any
) -> None:
    """Loss surface of the network in RUN on train and test: data and figures. Interrupted, it goes on.

    Along random directions, or with --directions along the eigenvectors of landscape spectrum.
    """
    _check_sizes(**settings)
    vectors = _vectors(along, settings)
    problem, data = source.open()
    for name in chosen:
        one_of("split", name, tuple(data))
    data = {name: part for name, part in data.items() if not chosen or name in chosen}
    out = out or source.folder
    writable(out)
    (d1, d2), made = _directions(problem, vectors, settings)
    span = _span(settings["reach"], settings["points"])
    stem = _stem(chosen, span if isinstance(span, str) else f"{span[1]:g}", vectors, **settings)
    if check and (out / f"{stem}.npz").exists():
        found = Slice2D.load(out / stem)
    else:
        journal = out / f"{stem}.walk.jsonl"
        shared = {key: settings[key] for key in ("subset", "workers")}
        found = slice_2d(problem, d1, d2, span, span, data, resume=journal, details=made, **shared)
        found.save(out / stem, run=str(source))
        journal.unlink()
    for path in _draw(found, out / stem, settings["style"], settings["surface"], settings["html"], settings["told"]):
        click.echo(f"{path}")
    if check:
        click.echo(f"{check_slice(problem, found, d1, d2, data)}")


def _check_sizes(*, points: int, seed: int, subset: int | None, workers: int, **_: Any) -> None:
    """Check numbers before anything is read."""
    for name, value, low in (("points", points, 2), ("subset", subset, 1), ("workers", workers, 1)):
        if value is not None:
            integer_in(f"--{name}", value, low)
    integer_in("--seed", seed, 0, LARGEST_SEED)


def _vectors(along: Path | None, settings: Mapping[str, Any]) -> Path | None:
    """The file of eigenvectors that was asked for."""
    if along is None:
        return None
    given = ", ".join(f"--{name}" for name, usual in DEFAULTS.items() if settings[name] != usual)
    require(not given, f"{given} belongs to random directions, got --directions; leave one of them out")
    return vectors_in(along)


def _directions(
    problem: Problem, vectors: Path | None, settings: Mapping[str, Any]
) -> tuple[Directions, dict[str, Any]]:
    """Two directions, and what the result tells of them."""
    if vectors is not None:
        found = directions_of(vectors, problem)
        return found, found.details
    made = {key: None if settings[key] == "none" else settings[key] for key in DEFAULTS}
    generator = torch.Generator().manual_seed(settings["seed"])
    found = random_directions(problem, normalize=made["normalize"], ignore=made["ignore"], generator=generator)
    return found, made


def _span(reach: str, points: int) -> Range | str:
    """Range of each axis."""
    if reach == AUTOMATIC:
        require(
            points == POINTS, f"--reach auto takes {POINTS} points, got {points}; give a reach, or leave out --points"
        )
        return AUTOMATIC
    try:
        far = float(reach)
    except ValueError as error:
        raise ValueError(f"--reach must be a number or 'auto', got {reach!r}") from error
    positive("--reach", far)
    return (-far, far, points)


def _stem(
    chosen: Sequence[str],
    far: str,
    vectors: Path | None,
    *,
    points: int,
    seed: int,
    subset: int | None,
    **settings: Any,
) -> str:
    """A name for each choice that changes the numbers; the defaults are not in it."""
    along = f"{seed}" if vectors is None else vectors.stem.removeprefix(PREFIX)
    usual = {settings["normalize"]: "filter", f"ignore-{settings['ignore']}": "ignore-bias_norm"}
    other = [name for name, default in usual.items() if name != default]
    sampled = [f"subset-{subset}"] if subset is not None else []
    return "-".join(["surface", f"{points}", far, along, *other, *sampled, *chosen])


def _draw(found: Slice2D, stem: Path, style: str, surface: bool, html: bool, told: str) -> list[Path]:
    """Contours of each split with what they are of below them, and what else was asked for."""
    paths: list[Path] = []
    for split in found.loss:
        axes = {"": plot_slice_2d(found, split, style=None if style == "none" else style)}
        if surface:
            axes["-3d"] = plot_surface(found, split)
        for suffix, ax in axes.items():
            figure = cast(Figure, ax.figure)
            if told == "on":
                add_caption(figure, caption(found, split))
            paths += save_figure(figure, stem.with_name(f"{stem.name}-{split}{suffix}"))
        if html:
            paths.append(save_interactive(found, stem.with_name(f"{stem.name}-{split}.html"), split))
    return paths
