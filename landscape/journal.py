"""Where long work keeps what it has done: a killed run goes on from its last whole step and ends with the same numbers.

Arrays and the settings they belong to lie in one npz, written under a temporary name and renamed.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from landscape.checks import require


class Journal:
    """State of one piece of work in one file; without a path it keeps nothing.

    Args:
        path: the file, ending in .npz; None switches the journal off.
        settings: what decides the numbers, as JSON holds it; a file with other settings is refused.
    """

    def __init__(self, path: str | Path | None, settings: Mapping[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        self.settings = json.dumps(settings, sort_keys=True)
        require(self.path is None or self.path.suffix == ".npz", f"checkpoint must end in .npz, got {path}")

    def load(self) -> dict[str, Tensor] | None:
        """What was last saved, None at the start. Raises ValueError if the file is unreadable or of other settings."""
        if self.path is None or not self.path.exists():
            return None
        try:
            with np.load(self.path, allow_pickle=False) as file:
                arrays = {name: torch.from_numpy(file[name]) for name in file.files if name != "settings"}
                found = str(file["settings"])
        except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
            raise ValueError(f"checkpoint {self.path} is not readable: {error}; delete it to start again") from error
        require(found == self.settings, f"checkpoint {self.path} is of other work: {found}; choose another path")
        return arrays

    def save(self, arrays: Mapping[str, Tensor]) -> None:
        """Replace the file."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial.npz")
        own = {name: tensor.detach().cpu().numpy() for name, tensor in arrays.items()}
        np.savez(partial, settings=np.array(self.settings), **own)  # type: ignore[arg-type]
        partial.replace(self.path)

    def close(self) -> None:
        """Remove the file: the work is done and its result is in the caller's hands."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
