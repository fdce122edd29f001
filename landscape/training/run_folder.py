"""The folder of a training run: config.json, log.jsonl (a line an epoch), resume.pt, and the finished network.

Each file is written under a temporary name and renamed, or, the log, read up to the last epoch that resume.pt holds:
a run that is killed at any moment goes on from its last whole epoch.
"""

import json
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from landscape.checks import require
from landscape.results import read_json, write_json
from landscape.training.checkpoint import NAME
from landscape.whole_files import replacing

CONFIG, LOG, RESUME = "config.json", "log.jsonl", "resume.pt"


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


def save_progress(folder: Path, line: dict[str, Any], state: dict[str, Any]) -> None:
    """Add the epoch's line to the log, then replace the state to resume from. `state` holds its "epoch"."""
    with (folder / LOG).open("a") as log:
        log.write(json.dumps(line) + "\n")
    with replacing(folder / RESUME) as partial:
        torch.save(state, partial)


def load_progress(folder: Path) -> dict[str, Any] | None:
    """The state to resume from, None at the start; log lines after it are dropped."""
    state = _read_state(folder / RESUME)
    epochs = state["epoch"] if state else 0
    kept = (folder / LOG).read_text().splitlines(keepends=True)[:epochs] if epochs else []
    with replacing(folder / LOG) as partial:
        partial.write_text("".join(kept))
    return state


def read_log(folder: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's log, one an epoch."""
    return [json.loads(line) for line in (Path(folder) / LOG).read_text().splitlines()]


def _read_state(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is no readable resume state: {reason}; delete it to train from the start") from error
    return state
