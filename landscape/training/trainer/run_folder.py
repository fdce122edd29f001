"""The folder of a training run: config.json, log.jsonl (a line an epoch), resume.pt, and the finished network.

Each file is written under a temporary name and renamed, or, the log, read up to the last epoch that resume.pt holds:
a run that is killed at any moment goes on from what was saved last.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from landscape.checks import require
from landscape.storage.atomic import replacing
from landscape.storage.results import read_json, write_json
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
    """Make the folder and write its config. Raises ValueError if it holds another run or cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CONFIG).exists():
            found = read_json(folder / CONFIG)
            changed = sorted(k for k in found.keys() | settings.keys() if found.get(k) != settings.get(k))
            require(not changed, f"folder {folder} holds a run with other {', '.join(changed)}; choose another folder")
        write_json(folder / CONFIG, settings)
    except OSError as error:
        raise ValueError(f"folder must be writable, got {folder}: {error.strerror}") from error


def finished(folder: Path) -> bool:
    """Whether the trained network is there; its metadata is the last file of a run."""
    weights = folder / NAME
    return weights.exists() and weights.with_suffix(".json").exists()


def append_log(folder: Path, line: dict[str, Any]) -> None:
    """Add an epoch's line to the log; it counts once a state of that epoch is saved."""
    with (folder / LOG).open("a") as log:
        log.write(json.dumps(line) + "\n")


def save_progress(folder: Path, progress: Progress, parts: Mapping[str, Any]) -> None:
    """Replace the state to resume from: how far the run is, and the state of each of its parts."""
    state = {"progress": vars(progress)} | {name: part.state_dict() for name, part in parts.items()}
    with replacing(folder / RESUME) as partial:
        torch.save(state, partial)


def load_progress(folder: Path, parts: Mapping[str, Any]) -> Progress:
    """Put the parts where the run was saved last, or leave them at the start; log lines after it are dropped."""
    state = _read_state(folder / RESUME)
    progress = Progress(**state["progress"]) if state else Progress()
    for name, part in parts.items() if state else ():
        part.load_state_dict(state[name])
    kept = (folder / LOG).read_text().splitlines(keepends=True)[: progress.epoch] if progress.epoch else []
    with replacing(folder / LOG) as partial:
        partial.write_text("".join(kept))
    return progress


def read_log(folder: str | Path, name: str = LOG) -> list[dict[str, Any]]:
    """The lines of a run's log, one an epoch; of diagnostics.jsonl, by that name, one a measurement."""
    return [json.loads(line) for line in (Path(folder) / name).read_text().splitlines()]


def _read_state(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is no readable resume state: {reason}; delete it to train from the start") from error
    return state
