"""`landscape analyze`: sharpness of one network as a table."""

from pathlib import Path
from typing import Any

import click
import torch

from landscape.checks import integer_in, require
from landscape.cli.source import LARGEST_SEED, Source, source_options
from landscape.metrics import METRICS
from landscape.metrics.analyze import analyze
from landscape.report.study import writable

TEXT = click.Path(dir_okay=False, path_type=Path)


@click.command("analyze")
@source_options
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
def analyze_command(source: Source, metrics: str | None, samples: int | None, seed: int, **settings: Any) -> None:
    """Sharpness of the network in RUN, on its own training loss: a table of values, errors and costs."""
    integer_in("--seed", seed, 0, LARGEST_SEED)
    if samples is not None:
        integer_in("--samples", samples, 1)
    for file in (settings["csv_file"], settings["json_file"]):
        if file is not None:
            writable(file.parent)
    problem, _ = source.open(samples)
    found = analyze(
        problem,
        split_names("--metrics", metrics),
        generator=torch.Generator().manual_seed(seed),
        budget=_seconds(settings["budget"]),
        resume=settings["resume"],
        say=lambda text: click.echo(text, err=True),
    )
    click.echo(f"{found}")
    if settings["csv_file"] is not None:
        found.to_csv(settings["csv_file"])
    if settings["json_file"] is not None:
        found.to_json(settings["json_file"], run=str(source), seed=seed)


def split_names(option: str, names: str | None) -> list[str] | None:
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
