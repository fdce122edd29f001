"""The console command: landscape train | analyze | slice | study | report | demo."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import click
import torch
from matplotlib.figure import Figure

from landscape.checks import integer_in, one_of, positive, require
from landscape.cli.study import demo_command, report_command, study_command
from landscape.cli.train import train_command
from landscape.metrics import METRICS
from landscape.metrics.analyze import analyze
from landscape.plots import add_caption, caption, plot_slice_2d, plot_surface, save_figure, save_interactive
from landscape.plots.style import LOOKS
from landscape.problem import Problem
from landscape.problem.plugin import Splits, load_problem
from landscape.report.study import writable
from landscape.slices import check_slice, random_directions, slice_2d
from landscape.slices.directions.normalization import NORMALIZATIONS
from landscape.slices.evaluation.axis import AUTOMATIC, POINTS, Range
from landscape.storage.results import Slice2D
from landscape.study.network_record import splits, training_problem

FOLDER = click.Path(file_okay=False, path_type=Path)
LARGEST_SEED = 2**63 - 1
TEXT = click.Path(dir_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="landscape-toolkit")
def cli() -> None:
    """The geometry of trained neural networks: Hessian spectra, sharpness, loss landscapes."""


def main() -> None:
    """Run the command; what the user can mend is one line on standard error and exit status 2."""
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("stopped; the same command goes on from what is kept (analyze keeps with --resume)", err=True)
        sys.exit(130)
    except ValueError as error:
        click.echo(f"landscape: {error}", err=True)
        sys.exit(2)
    except (OSError, RuntimeError, MemoryError) as error:
        said = " ".join(f"{type(error).__name__} {error}".split())
        hint = "make room or see to the rights" if isinstance(error, OSError) else "try fewer data or --workers"
        click.echo(f"landscape: {said}; {hint}; the same command goes on from what is kept", err=True)
        sys.exit(2)


cli.add_command(train_command)


def _names(options: Sequence[str | None]) -> list[str]:
    return [option or "none" for option in options]


def _source_options(command: Callable[..., None]) -> Callable[..., None]:
    """RUN, or a problem of the user's own."""
    own = "In place of RUN: FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION, returning a Problem or (Problem, splits)."
    command = click.option("--problem", "own", default=None, metavar="FILE.py:FUNCTION", help=own)(command)
    return click.argument("run", type=FOLDER, required=False)(command)


@cli.command("analyze")
@_source_options
@click.option("--metrics", default=None, help=f"Comma-separated; default all that apply of {', '.join(METRICS)}.")
@click.option("--samples", type=int, default=None, help="Use the first so many training images of RUN.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--budget", default=None, metavar="TIME", help="Cheapest metrics first, within a time such as 60s or 5m.")
@click.option(
    "--resume",
    "--checkpoint",
    "resume",
    type=TEXT,
    default=None,
    help="Keeps what is done; the same command goes on from there.",
)
@click.option("--csv", "csv_file", type=TEXT, default=None, help="Also write the table as CSV.")
@click.option("--json", "json_file", type=TEXT, default=None, help="Also write the table, with details, as JSON.")
def analyze_command(
    run: Path | None, own: str | None, metrics: str | None, samples: int | None, seed: int, **settings: Any
) -> None:
    """Sharpness of the checkpoint in RUN, on its own training loss: a table of values, errors and costs."""
    integer_in("--seed", seed, 0, LARGEST_SEED)
    if samples is not None:
        integer_in("--samples", samples, 1)
    for file in (settings["csv_file"], settings["json_file"]):
        if file is not None:
            writable(file.parent)
    problem, _ = _source(run, own, samples)
    found = analyze(
        problem,
        _listed("--metrics", metrics),
        generator=torch.Generator().manual_seed(seed),
        budget=_seconds(settings["budget"]),
        resume=settings["resume"],
        say=lambda text: click.echo(text, err=True),
    )
    click.echo(f"{found}")
    if settings["csv_file"] is not None:
        found.to_csv(settings["csv_file"])
    if settings["json_file"] is not None:
        found.to_json(settings["json_file"], run=str(run or own), seed=seed)


def _listed(option: str, names: str | None) -> list[str] | None:
    """The names of a comma-separated option; None where it is not given."""
    found = None if names is None else [name.strip() for name in names.split(",") if name.strip()]
    require(found is None or len(found) > 0, f"{option} must name at least one, got {names!r}; leave it out for all")
    return found


def _seconds(budget: str | None) -> float | None:
    """60, 60s, 5m or 1h in seconds."""
    if budget is None:
        return None
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (budget[:-1], units[budget[-1]]) if budget[-1:] in units else (budget, 1.0)
    try:
        return float(number) * unit
    except ValueError as error:
        raise ValueError(f"--budget must be a time such as 60s, 5m or 1h, got {budget!r}") from error


@cli.command("slice")
@_source_options
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
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--normalize", type=click.Choice(_names(NORMALIZATIONS)), default="filter", show_default=True)
@click.option("--ignore", type=click.Choice(["bias_norm", "none"]), default="bias_norm", show_default=True)
@click.option("--split", "chosen", multiple=True, help="Only this split, such as train; can be repeated.")
@click.option("--style", type=click.Choice(_names(LOOKS)), default="none", show_default=True, help="Of the contours.")
@click.option("--surface", is_flag=True, help="Also a surface in 3D.")
@click.option("--html", is_flag=True, help="Also a page to turn it around, 5 MB each.")
@click.option(
    "--check", is_flag=True, help="Say in words whether the plot is right; of a finished one where it exists."
)
def slice_command(
    run: Path | None, own: str | None, out: Path | None, chosen: tuple[str, ...], check: bool, **settings: Any
) -> None:
    """Loss surface of the checkpoint in RUN on train and test: data and figures. Interrupted, it goes on."""
    _check_sizes(**settings)
    problem, data = _source(run, own)
    for name in chosen:
        one_of("split", name, tuple(data))
    data = {name: part for name, part in data.items() if not chosen or name in chosen}
    out = out or run or Path()
    writable(out)
    made = {key: None if settings[key] == "none" else settings[key] for key in ("normalize", "ignore", "seed")}
    generator = torch.Generator().manual_seed(settings["seed"])
    d1, d2 = random_directions(problem, normalize=made["normalize"], ignore=made["ignore"], generator=generator)
    span = _span(settings["reach"], settings["points"])
    stem = _stem(chosen, span if isinstance(span, str) else f"{span[1]:g}", **settings)
    if check and (out / f"{stem}.npz").exists():
        found = Slice2D.load(out / stem)
    else:
        log = out / f"{stem}.walk.jsonl"
        shared = {key: settings[key] for key in ("subset", "workers")}
        found = slice_2d(problem, d1, d2, span, span, data, resume=log, details=made, **shared)
        found.save(out / stem, run=str(run or own))
        log.unlink()
    for path in _draw(found, out / stem, settings["style"], settings["surface"], settings["html"]):
        click.echo(f"{path}")
    if check:
        click.echo(f"{check_slice(problem, found, d1, d2, data)}")


def _check_sizes(*, points: int, seed: int, subset: int | None, workers: int, **_: Any) -> None:
    """Before anything is read."""
    for name, value, low in (("points", points, 2), ("subset", subset, 1), ("workers", workers, 1)):
        if value is not None:
            integer_in(f"--{name}", value, low)
    integer_in("--seed", seed, 0, LARGEST_SEED)


def _source(run: Path | None, own: str | None, samples: int | None = None) -> tuple[Problem, Splits]:
    """The problem and its splits, from a run folder or from the user's function."""
    require((run is None) != (own is None), "one of RUN and --problem is needed, got both or none")
    if own is not None:
        require(samples is None, "--samples belongs to RUN; with --problem the function chooses its data")
        return load_problem(own)
    assert run is not None
    return training_problem(run, samples), splits(run)


def _span(reach: str, points: int) -> Range | str:
    """Of each axis."""
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


def _stem(chosen: Sequence[str], far: str, *, points: int, seed: int, subset: int | None, **settings: Any) -> str:
    """A name for each choice that changes the numbers; the defaults are not in it."""
    usual = {settings["normalize"]: "filter", f"ignore-{settings['ignore']}": "ignore-bias_norm"}
    other = [name for name, default in usual.items() if name != default]
    sampled = [f"subset-{subset}"] if subset is not None else []
    return "-".join(["surface", f"{points}", far, f"{seed}", *other, *sampled, *chosen])


def _draw(found: Slice2D, stem: Path, style: str, surface: bool, html: bool) -> list[Path]:
    """Contours of each split with what they are of below them, and what else was asked for."""
    paths: list[Path] = []
    for split in found.loss:
        axes = {"": plot_slice_2d(found, split, style=None if style == "none" else style)}
        if surface:
            axes["-3d"] = plot_surface(found, split)
        for suffix, ax in axes.items():
            figure = cast(Figure, ax.figure)
            add_caption(figure, caption(found, split))
            paths += save_figure(figure, stem.with_name(f"{stem.name}-{split}{suffix}"))
        if html:
            paths.append(save_interactive(found, stem.with_name(f"{stem.name}-{split}.html"), split))
    return paths


for command in (study_command, report_command, demo_command):
    cli.add_command(command)


if __name__ == "__main__":
    main()
