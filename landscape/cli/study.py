"""`landscape study`: many networks, their table, figures and page."""

import os
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter

import click

from landscape.cli.source import FOLDER
from landscape.processes.cluster import LOCAL, cluster
from landscape.report import report_study
from landscape.report.study import writable
from landscape.study.config_file import read_study
from landscape.study.own_checkpoint import OwnCheckpoint, require_problems
from landscape.study.study_runner import StudyConfig, broken, run_study
from landscape.training.trainer.device import curvature_device

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
QUESTION = "which measure follows the generalisation gap?"

DEVICE = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="DEVICE",
    help="Where to train and measure: cpu or cuda; auto trains as train does and measures on the CPU.",
)
_settings = click.option(
    "--settings", type=FILE, default=None, help="Beside a table: analysis, families and workers as JSON or YAML."
)


_cluster = click.option(
    "--cluster",
    "address",
    metavar="ADDRESS",
    default=None,
    help="A Dask scheduler's, tcp://HOST:8786, whose workers see --runs under the same path; or local.",
)


@click.command("study")
@click.argument("config", type=FILE)
@click.option("--runs", type=FOLDER, required=True, help="Where checkpoints and results are kept.")
@click.option("--out", type=FOLDER, required=True, help="Where table, figures and page go.")
@_settings
@DEVICE
@_cluster
def study_command(config: Path, runs: Path, out: Path, settings: Path | None, device: str, address: str | None) -> None:
    """Train and analyse a grid of networks, or analyse your own checkpoints, and write the page.

    CONFIG is a grid in JSON or YAML: {"base": {...}, "axes": {"optimizer": [...], "lr": [...],
    "model_settings.width": [...], "label_noise": [...], "seed": [...]}, "per_optimizer": {...}, "analysis":
    {"metrics": [...], "settings": {...}, ...}, "families": {"renyi order": [...]}, "workers": 2}.

    Or it is a table, .csv, with the columns path, factory, train_loss, test_loss and one for each hyper-parameter:
    path and FILE.py are relative to the table's folder, and all of them must be there before the first is measured;
    factory is FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION and turns the path into a landscape.Problem, the training
    loss of that network; it is tried on its first row before the first is measured.

    The same command goes on where it was interrupted. A network that fails is named on the page; the others go on. On
    a cluster a network whose worker is lost is given to another one.
    """
    if address is None:  # workers have devices of their own
        curvature_device(device)
    study = read_study(config, runs if address is None else runs.resolve(), settings, device=device)
    source = relative_to(out, config=config, runs=runs, settings=settings)
    make_study(study, out, f"Study {config.stem}: {QUESTION}", address, made_from=source)


def relative_to(out: Path, **paths: Path | None) -> dict[str, str | None]:
    """What a study's page is made from, seen from its folder."""
    return {name: os.path.relpath(path, out) if path else None for name, path in paths.items()}


def make_study(
    config: StudyConfig,
    out: Path,
    title: str,
    address: str | None = None,
    *,
    made_from: dict[str, str | None] | None = None,
) -> None:
    """Run the study, on a Dask cluster if one is named, and write its page, and say what is done meanwhile."""
    writable(out)
    began = perf_counter()
    with cluster(address, config.workers) if address else nullcontext() as executor:
        where = f"{config.workers} at a time" if address in (None, LOCAL) else f"on the cluster at {address}"
        own = [network for network in config.members.values() if isinstance(network, OwnCheckpoint)]
        done = "measured" if own else "trained, measured and sliced"
        click.echo(f"{title} {len(config.members)} networks, {where}, are {done}.")
        analysis = config.analysis
        require_problems(own, analysis.samples, analysis.batch_size, executor or config.workers)
        run_study(config, executor, progress=True)
    click.echo(f"tables, figures and page into {out}")
    page = report_study(config, out, title, made_from=made_from)
    failed = broken(config)
    left = f"; {len(failed)} failed and are named there" if failed else ""
    click.echo(f"{len(config.members)} networks in {perf_counter() - began:.0f} s; open {page}{left}")
