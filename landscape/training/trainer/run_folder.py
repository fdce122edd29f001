"""The folder of a training run: config.json, log.jsonl (a line an epoch), resume.pt, and the finished network.

One process at a time works in it. Each file is written under a temporary name and renamed, or, the log, put back to
what it was when resume.pt, which holds it too, was saved: a run that is killed at any moment goes on from there.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from torch import Tensor

from landscape.checks import first_line, integer_in, require
from landscape.storage.atomic import locked_folder, replacing
from landscape.storage.manifest import read_json, whole, write_json
from landscape.storage.settings import differing
from landscape.training.trainer.checkpoint import NAME
from landscape.training.trainer.config import TrainConfig
from landscape.training.trainer.ranks import Ranks

CONFIG, LOG, RESUME, DIAGNOSTICS = "config.json", "log.jsonl", "resume.pt", "diagnostics.jsonl"


@dataclass
class Progress:
    """How far a run is. What follows `epoch` is of the epoch under way."""

    epoch: int = 0  # done as a whole
    batches: int = 0
    loss: float = 0.0  # sum over the samples met
    right: float = 0.0  # likewise
    seconds: float = 0.0
    samples: int = 0  # met, of a stream
    random_state: Tensor | None = None  # None: that of the epoch's beginning
    device_state: Tensor | None = None  # likewise, of a GPU
    stopped: str = ""  # why the training is over before its last epoch


@contextmanager
def claimed(folder: Path, config: TrainConfig, ranks: Ranks) -> Iterator[None]:
    """The folder, locked by the first process and with the run's config in it; what fails there fails in all.

    Raises:
        ValueError: if it holds another run.
    """
    with ExitStack() as stack:
        failure = None
        if ranks.first:
            try:
                stack.enter_context(locked_folder(folder))
                _claim(folder, config)
            except (ValueError, OSError) as error:
                failure = error
        failure = ranks.tell(failure)
        if failure is not None:
            raise failure
        yield


def _claim(folder: Path, config: TrainConfig) -> None:
    settings = config.settings()
    if (folder / CONFIG).exists() and (folder / CONFIG).stat().st_size:
        changed = ", ".join(sorted(differing(read_json(folder / CONFIG), settings)))
        require(not changed, f"folder {folder} holds a run with other {changed}; choose another folder")
    write_json(folder / CONFIG, settings)


def finished(folder: Path) -> bool:
    """Whether the trained network is there as it was written; its metadata is the last file of a run."""
    return whole(folder / NAME)


def append_log(folder: Path, line: dict[str, Any]) -> None:
    """Add an epoch's line to the log; it counts once a state of that epoch is saved, with which it reaches the disk."""
    with (folder / LOG).open("a") as log:
        log.write(json.dumps(line) + "\n")


def save_progress(folder: Path, progress: Progress, parts: Mapping[str, Any], beginning: Mapping[str, Any]) -> None:
    """Replace the state to resume from: how far the run is, the state of each of its parts, and how it began."""
    with (folder / LOG).open("r+") as log:  # not all systems sync what is open for reading alone
        os.fsync(log.fileno())
        state = {"progress": vars(progress), "log": log.read(), "beginning": dict(beginning)}
    state |= {name: part.state_dict() for name, part in parts.items()}
    with replacing(folder / RESUME) as partial:
        torch.save(state, partial)


def read_progress(folder: Path, epochs: int) -> dict[str, Any] | None:
    """The state that was saved last; None at the start.

    Raises:
        ValueError: if it is unreadable, was changed, or is of no moment of a run of so many epochs.
    """
    path = folder / RESUME
    if not path.exists() or not path.stat().st_size:  # a loss of power may leave it empty
        return None
    with _readable(path):
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        with ZipFile(path) as archive:  # torch does not compare the checksums
            require(archive.testzip() is None, "it was changed after it was written")
        progress = Progress(**state["progress"])
        if "log" not in state:  # of an earlier version
            state["log"] = "".join((folder / LOG).read_text().splitlines(True)[: progress.epoch])
        integer_in("epoch", progress.epoch, 0, epochs)
        integer_in("batches", progress.batches, 0)
        return state


def put_back(folder: Path, state: Mapping[str, Any] | None, parts: Mapping[str, Any], *, write: bool) -> Progress:
    """Put the parts where they were in a state of `read_progress`, and, where `write` says so, the log."""
    progress = Progress()
    if state is not None:
        with _readable(folder / RESUME):
            progress = Progress(**state["progress"])
            for name, part in parts.items():
                part.load_state_dict(state[name])
    if write:
        with replacing(folder / LOG) as partial:
            partial.write_text(state["log"] if state is not None else "")
    return progress


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever torch says of bytes that are none of its own
        reason = first_line(error)
        raise ValueError(f"{path} is no readable resume state: {reason}; delete it to train from the start") from error


def read_log(folder: str | Path, name: str = LOG) -> list[dict[str, Any]]:
    """The lines of a run's log, one an epoch; of diagnostics.jsonl, by that name, one a measurement.

    Raises:
        ValueError: if the file is missing or damaged.
    """
    path = Path(folder) / name
    try:
        return [dict(json.loads(line)) for line in path.read_text().splitlines()]
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path} must hold a JSON object a line: {error}") from error
