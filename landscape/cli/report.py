"""`landscape report`: the page of one network, or that of a study that has run."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import click

from landscape.checks import integer_in, require
from landscape.cli.analyze import split_names
from landscape.cli.demo import TITLE, demo_study
from landscape.cli.source import FOLDER, LARGEST_SEED, Source, source_options
from landscape.cli.study import FILE, QUESTION, relative_to
from landscape.cli.weights_as_run import source_of
from landscape.report import report_network, report_study
from landscape.report.network_findings import QUICK, Effort
from landscape.report.study import MANIFEST, writable
from landscape.storage.manifest import read_json
from landscape.study.config_file import read_study
from landscape.study.network_record import METRICS_FILE

AGAIN = "run again what made it, landscape demo or landscape study, with the same --runs and --out"
CONFIGS = (".json", ".yaml", ".yml", ".csv")
OUTPUT = click.Path(dir_okay=False, path_type=Path)


def _or_of_a_study(command: Callable[..., None]) -> Callable[..., None]:
    """RUN may also be the CONFIG of a study, with --runs and --out, or the folder in which its page lies."""

    @wraps(command)
    def either(*, runs: Path | None, out: Path | None, settings: Path | None, **others: Any) -> None:
        run = others["run"]
        if run is not None and run.suffix in CONFIGS and run.is_file() and source_of(run) is None:
            require(None not in (runs, out), f"{run} is of a study, which needs --runs and --out; give both")
            _write_study({"config": run, "runs": runs, "settings": settings}, Path(str(out)))
        elif run is not None and (run / MANIFEST).is_file():
            made = read_json(run / MANIFEST).get("made_from", {})
            require(len(made) > 0, f"{run} does not say what it was made from; {AGAIN}")
            _write_study({name: run / path if path else None for name, path in made.items()}, run)
        else:
            require(
                run is None or not any(run.glob(f"*/{METRICS_FILE}")),
                f"{run} holds the networks of a study; take landscape report CONFIG --runs {run} --out FOLDER",
            )
            require(
                (runs, out, settings) == (None,) * 3,
                "--runs, --out and --settings belong to a study's CONFIG; the page of one network takes --output FILE",
            )
            command(**others)

    found: Callable[..., None] = either
    for option in (
        click.option("--settings", type=FILE, default=None, help="Of a study's table, as in landscape study."),
        click.option("--out", type=FOLDER, default=None, help="Of a study: where table, figures and page go."),
        click.option("--runs", type=FOLDER, default=None, help="Of a study: where its results are kept."),
    ):
        found = option(found)
    return found


@click.command("report")
@_or_of_a_study
@source_options
@click.option("--output", type=OUTPUT, default=None, help="The page; default report.html in RUN, or here.")
@click.option("--metrics", default=None, help="Comma-separated; default a short list.")
@click.option("--samples", type=int, default=None, help="Of RUN: so many training images, and of each split in slices.")
@click.option("--quick", is_flag=True, help="Fewer eigenvalues, products and points.")
@click.option("--seed", type=int, default=0, show_default=True)
def report_command(
    source: Source, output: Path | None, metrics: str | None, samples: int | None, quick: bool, seed: int
) -> None:
    """One page of the network in RUN: spectrum, sharpness, slices and checks, in figures and words.

    Of a study that has run, RUN is its CONFIG, with --runs and --out, or the folder in which its page lies: table,
    figures and page are written again from its saved results.
    """
    integer_in("--seed", seed, 0, LARGEST_SEED)
    if samples is not None:
        integer_in("--samples", samples, 1)
    effort = replace(QUICK if quick else Effort(), seed=seed, subset=samples)
    names = split_names("--metrics", metrics)
    effort = effort if names is None else replace(effort, metrics=names)
    page = output or source.folder / "report.html"
    writable(page.parent)
    problem, data = source.open(samples)
    say = lambda text: click.echo(text, err=True)  # noqa: E731
    click.echo(f"{report_network(problem, data, page, str(source), effort, say)}")


def _write_study(made: Mapping[str, Path | None], out: Path) -> None:
    """The page of a study from its config, or that of the demonstration, which has none."""
    config, runs = made["config"], Path(str(made["runs"]))
    require(runs.is_dir(), f"{runs}, where the results of the study were kept, is not there; {AGAIN}")
    if config is None:
        study, title = demo_study(runs), TITLE
    else:
        study, title = read_study(config, runs, made["settings"], files=False), f"Study {config.stem}: {QUESTION}"
    click.echo(f"{report_study(study, out, title, made_from=relative_to(out, **made))}")
