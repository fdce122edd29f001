"""The user's own checkpoints: a CSV table that says where each lies, which function builds its problem, how it fared.

Columns: path; factory, a function of the user's, FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION (paths are relative to the
table); train_loss and test_loss, means per sample; where known train_accuracy and test_accuracy in [0, 1], test_samples
and name. Every other column is a hyper-parameter; "rule" colours the figures, "seed" tells repetitions apart.

The function is called with the path and returns a `Problem`: the network with the checkpoint's weights in it, the
criterion it was trained with, and the training data (part of them, the same for all networks, where that is enough).
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from landscape.checks import first_line, require
from landscape.problem import Problem
from landscape.problem.plugin import load_problem, named_function
from landscape.processes import WorkerError, pool
from landscape.side_effects import random_state_kept
from landscape.study.network_record import METRICS_FILE
from landscape.training.trainer.device import curvature_device, move

NEEDED = ("path", "factory", "train_loss", "test_loss")
OWN = ("written", "code")  # what `settings` adds to the columns
SHOWN = 3  # of what is wrong
KNOWN = ("train_accuracy", "test_accuracy", "test_samples")  # where the user has them


@dataclass(frozen=True)
class OwnCheckpoint:
    """A row of the user's table."""

    folder: Path
    path: str
    factory: str
    chosen: Mapping[str, Any]
    outcome: Mapping[str, float]
    line: int = 0  # of the table
    device: str = "auto"  # where the factory puts it, or another one

    def prepare(self) -> None:
        """See that the checkpoint is there."""
        require(Path(self.path).exists(), f"checkpoint {self.path} does not exist")

    def problem(self, samples: int | None, batch_size: int) -> Problem:  # noqa: ARG002 -- the function batches its data
        """What the user's function makes of the path."""
        require(samples is None, "samples belongs to a grid; in a table of checkpoints the factory chooses its data")
        problem = load_problem(self.factory, self.path)[0]
        return problem if self.device == "auto" else move(problem, curvature_device(self.device))

    def splits(self, batch_size: int) -> None:
        """No slices."""

    def columns(self) -> dict[str, Any]:
        """The row's hyper-parameters and losses."""
        return {**self.chosen, **self.outcome}

    def settings(self) -> dict[str, Any]:
        """Where it comes from, when it was written, and the factory's code: after a change it is measured anew."""
        path, script = Path(self.path), Path(self.factory.rpartition(":")[0])
        written = path.stat().st_mtime_ns if path.exists() else 0
        code = sha256(script.read_bytes()).hexdigest()[:16] if script.is_file() else ""
        return {"path": self.path, "factory": self.factory, "written": written, "code": code, **self.columns()}


def read_checkpoints(table: str | Path, folder: str | Path, device: str = "auto") -> dict[str, OwnCheckpoint]:
    """Name to checkpoint of every row; whether the files are there, `require_files` says.

    Args:
        table: the CSV file.
        folder: where what is found of each is kept, in a sub-folder of its name.
        device: where the networks are measured; "auto" is where the factory puts them.
    Raises:
        ValueError: if the table is unreadable, a column is missing, a loss is no number, or a name occurs twice.
    """
    try:
        with Path(table).open(newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{table} must be a readable CSV table: {error}") from error
    require(len(rows) > 0, f"{table} must hold at least one row")
    taken = ", ".join(column for column in OWN if column in rows[0])
    require(not taken, f"{table} must not have a column {taken}, which is kept of every network; rename it")
    missing = [column for column in NEEDED if column not in rows[0]]
    found = ", ".join(" ".join(column.split()) for column in rows[0] if column is not None)
    require(
        not missing,
        f"{table} must have the columns {', '.join(NEEDED)}; missing {', '.join(missing)}; got {found}",
    )
    networks, seen = {}, set[str]()  # on some disks A and a are one folder
    for line, row in enumerate(rows, start=2):
        require(None not in row and None not in row.values(), f"{table}, line {line}: needs {len(rows[0])} columns")
        name = row.get("name") or Path(row["path"]).stem
        plain = Path(name).name == name and name not in ("", "..") and not {"/", "\\", "\0"} & {*name}
        require(plain, f"{table}, line {line}: name must be that of a folder in --runs, got {name!r}")
        require(
            name.casefold() not in seen, f"{table}, line {line}: the name {name!r} occurs twice; add a column 'name'"
        )
        seen.add(name.casefold())
        network = _network(row, Path(table).parent, Path(folder) / name, f"{table}, line {line}")
        networks[name] = replace(network, line=line, device=device)
    return networks


def require_files(table: str | Path, networks: Iterable[OwnCheckpoint]) -> None:
    """Raise a ValueError that names the lines whose checkpoint is not there, or whose factory is none.

    Each factory's file is run once, as it is for every network later.
    """
    lines, known, lost = dict[str, list[int]](), dict[str, str](), False
    for network in networks:
        if network.factory not in known:
            known[network.factory] = _fault(network.factory)
        there, script = Path(network.path).exists(), Path(network.factory.rpartition(":")[0])
        fault = known[network.factory] if there else f"no file {network.path}"
        if fault:
            lines.setdefault(fault, []).append(network.line)
            lost |= not there or (script.suffix == ".py" and not script.is_file())
    told = "; ".join(f"{_of(own)}: {fault}" for fault, own in list(lines.items())[:SHOWN])
    left = sum(len(own) for own in list(lines.values())[SHOWN:])
    more = f"; and {left} more" if left else ""
    base = f"; paths are relative to the table's folder, {Path(table).resolve().parent}" if lost else ""
    require(not lines, f"{table}, {told}{more}{base}")


def require_problems(
    networks: Iterable[OwnCheckpoint], samples: int | None, batch_size: int, workers: int | Executor
) -> None:
    """Call each factory for its first row, where the networks will be measured; nothing is kept of what it makes.

    A factory of which a network has been measured is not called.

    Raises:
        ValueError: if one fails, in one line that names the row.
    """
    by_factory: dict[str, list[OwnCheckpoint]] = {}
    for network in networks:
        by_factory.setdefault(network.factory, []).append(network)
    first = [own[0] for own in by_factory.values() if not any((one.folder / METRICS_FILE).exists() for one in own)]
    if not first:
        return
    try:
        with pool(partial(_refused, samples, batch_size), workers, threads=1, unit="factory") as results:
            for network, error in results(first):
                require(not error, f"line {network.line}: factory {network.factory} fails for {network.path}: {error}")
    except WorkerError as error:
        raise ValueError(str(error)) from error


def _refused(samples: int | None, batch_size: int, network: OwnCheckpoint) -> str:
    """Why its problem cannot be made; "" where it can. Random numbers are drawn as if it had not been tried."""
    with random_state_kept():
        try:
            network.problem(samples, batch_size)
        except Exception as error:  # whatever the user's code raises
            return " ".join(f"{type(error).__name__}: {error}".split())
    return ""


def _of(lines: Sequence[int]) -> str:
    """ "line 2", "line 2 and 39 more"."""
    return f"line {lines[0]}" + (f" and {len(lines) - 1} more" if len(lines) > 1 else "")


def _fault(factory: str) -> str:
    """Why there is no such function; "" where there is."""
    try:
        named_function("factory", factory)
    except ValueError as error:
        return str(error)
    except Exception as error:  # whatever the user's file raises
        return f"factory {factory} cannot be had: {type(error).__name__}: {first_line(error)}"
    return ""


def _network(row: Mapping[str, str], base: Path, folder: Path, where: str) -> OwnCheckpoint:
    outcome = {}
    for column in ("train_loss", "test_loss", *KNOWN):
        if row.get(column):
            try:
                outcome[column] = float(row[column])
            except ValueError as error:
                raise ValueError(f"{where}: {column} must be a number, got {row[column]!r}") from error
    require({"train_loss", "test_loss"} <= outcome.keys(), f"{where}: train_loss and test_loss must be numbers")
    chosen = {key: _value(text) for key, text in row.items() if key not in (*NEEDED, *KNOWN, "name")}
    source, _, function = row["factory"].rpartition(":")
    if source.endswith(".py"):
        source = str((base / source).resolve())
    return OwnCheckpoint(folder, str((base / row["path"]).resolve()), f"{source}:{function}", chosen, outcome)


def _value(text: str) -> Any:
    """A number where it is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text
