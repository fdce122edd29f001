"""The folder of a training run: config.json, log.jsonl (a line an epoch), resume.pt, and the finished network.

One process at a time works in it. Each file is written under a temporary name and renamed, or, the log, put back to
what it was when resume.pt, which holds it too, was saved: a run that is killed at any moment goes on from there.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from torch import Tensor

from landscape.checks import integer_in, require
from landscape.storage.atomic import replacing
from landscape.storage.manifest import read_json, whole, write_json
from landscape.storage.settings import differing
from landscape.training.trainer.checkpoint import NAME

CONFIG, LOG, RESUME, DIAGNOSTICS = "config.json", "log.jsonl", "resume.pt", "diagnostics.jsonl"


@dataclass
class Progress:
    """How far a run is. What follows `epoch` is of the epoch under way."""

    epoch: int = 0  # done as a whole
    batches: int = 0
    loss: float = 0.0  # sum over the samples met
    right: float = 0.0  # likewise
    seconds: float = 0.0
    random_state: Tensor | None = None  # None: that of the epoch's beginning


def claim(folder: Path, settings: dict[str, Any]) -> None:
    """Write the run's config into its folder. Raises ValueError if it holds another run."""
    if (folder / CONFIG).exists() and (folder / CONFIG).stat().st_size:
        changed = ", ".join(sorted(differing(read_json(folder / CONFIG), settings)))
        require(not changed, f"folder {folder} holds a run with other {changed}; choose another folder")
    write_json(folder / CONFIG, settings)


def finished(folder: Path) -> bool:
    """Whether the trained network is there as it was written; its metadata is the last file of a run."""
    return whole(folder / NAME)


def append_log(folder: Path, line: dict[str, Any]) -> None:
    """Add an epoch's line to the log; it counts once a state of that epoch is saved."""
    with (folder / LOG).open("a") as log:
        log.write(json.dumps(line) + "\n")
        log.flush()
        os.fsync(log.fileno())


def save_progress(folder: Path, progress: Progress, parts: Mapping[str, Any]) -> None:
    """Replace the state to resume from: how far the run is, and the state of each of its parts."""
    state = {"progress": vars(progress), "log": (folder / LOG).read_text()}
    state |= {name: part.state_dict() for name, part in parts.items()}
    with replacing(folder / RESUME) as partial:
        torch.save(state, partial)


def load_progress(folder: Path, parts: Mapping[str, Any], epochs: int) -> Progress:
    """Put the parts where the run was saved last, or leave them at the start; the log is what it was then.

    Raises:
        ValueError: if the state is unreadable, was changed, or is of no moment of a run of so many epochs.
    """
    path, progress, log = folder / RESUME, Progress(), ""
    if path.exists() and path.stat().st_size:  # a loss of power may leave it empty
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            with ZipFile(path) as archive:  # torch does not compare the checksums
                require(archive.testzip() is None, "it was changed after it was written")
            progress = Progress(**state["progress"])
            earlier = "log" not in state  # of an earlier version
            log = "".join((folder / LOG).read_text().splitlines(True)[: progress.epoch]) if earlier else state["log"]
            integer_in("epoch", progress.epoch, 0, epochs)
            integer_in("batches", progress.batches, 0)
            for name, part in parts.items():
                part.load_state_dict(state[name])
        except Exception as error:  # whatever torch says of bytes that are none of its own
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"{path} is no readable resume state: {reason}; delete it to train from the start"
            ) from error
    with replacing(folder / LOG) as partial:
        partial.write_text(log)
    return progress


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
