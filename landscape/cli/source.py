"""Where a network comes from: a run folder, or a problem of the user's own."""

from collections.abc import Callable
from pathlib import Path

import click

from landscape.checks import require
from landscape.problem import Problem
from landscape.problem.plugin import Splits, load_problem
from landscape.study.network_record import load_run, splits

FOLDER = click.Path(file_okay=False, path_type=Path)
LARGEST_SEED = 2**63 - 1


def source_options(command: Callable[..., None]) -> Callable[..., None]:
    """RUN, or a problem of the user's own."""
    own = "In place of RUN: FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION, returning a Problem or (Problem, splits)."
    command = click.option("--problem", "own", default=None, metavar="FILE.py:FUNCTION", help=own)(command)
    return click.argument("run", type=FOLDER, required=False)(command)


def find_source(run: Path | None, own: str | None, samples: int | None = None) -> tuple[Problem, Splits]:
    """The problem and its splits, from a run folder or from the user's function."""
    require((run is None) != (own is None), "one of RUN and --problem is needed, got both or none")
    if own is not None:
        require(samples is None, "--samples belongs to RUN; with --problem the function chooses its data")
        return load_problem(own)
    assert run is not None
    return load_run(run, samples), splits(run)
