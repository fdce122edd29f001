"""Where long work keeps what it has done: a killed run goes on from its last whole step and ends with the same numbers.

Arrays and the settings they belong to lie in one npz, replaced as a whole.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.checks import require
from landscape.storage.atomic import replacing
from landscape.storage.npz import read_arrays
from landscape.storage.settings import as_json, differing, foreign

EVERY = 5.0  # seconds between writes
SHARE = 20.0  # a write that took t seconds is not followed by another within SHARE · t: 5 % of the time at most
FIRST, HEADER = b"settings.npy", 30  # the first entry's name, and the bytes of a zip file before it
BFLOAT16 = ":bfloat16"  # NumPy has no such type: its bits are kept as int16 under a name with this at the end


class ArrayCheckpoint:
    """State of one piece of work in one file; without a path it keeps nothing.

    Args:
        path: the file, ending in .npz; None switches the checkpoint off.
        settings: what decides the numbers, as JSON holds it; a file with other settings is refused.
    """

    def __init__(self, path: str | Path | None, settings: Mapping[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        self.settings = as_json(settings)
        self.next = monotonic() + EVERY  # when the next write is due
        require(self.path is None or self.path.suffix == ".npz", f"resume must end in .npz, got {path}")

    def load(self) -> dict[str, Tensor] | None:
        """What was last saved, None at the start. Raises ValueError if the file is unreadable or of other settings."""
        if self.path is None or not self.path.exists() or not self.path.stat().st_size:
            return None
        try:
            arrays = read_arrays(self.path)
            settings, *names = arrays.pop("settings").reshape(-1).tolist()
            found = differing(dict(json.loads(settings)), self.settings)
            require(not names or {*names} == arrays.keys(), "arrays are missing")  # earlier versions kept no names
            tensors = dict(_tensor(name, array) for name, array in arrays.items())
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            if not _begins_as_ours(self.path):
                raise foreign(self.path) from error
            raise ValueError(f"resume file {self.path} is not readable: {error}; delete it to start again") from error
        other = ", ".join(f"{key} {value!r}" for key, value in found.items())
        require(not other, f"resume file {self.path} is of other work, with {other}; choose another path")
        return tensors

    def save(self, arrays: Mapping[str, Tensor]) -> None:
        """Replace the file."""
        if self.path is None:
            return
        started = monotonic()
        with replacing(self.path) as partial:
            own = _own(arrays)
            np.savez(partial, settings=np.array([json.dumps(self.settings), *own]), **own)
        ended = monotonic()
        self.next = ended + max(EVERY, SHARE * (ended - started))

    def save_if_due(self, state: Callable[[], Mapping[str, Tensor]]) -> None:
        """Replace the file where the last write is long enough ago: 5 seconds, or 20 times what that write took."""
        if self.path is not None and monotonic() >= self.next:
            self.save(state())

    @contextmanager
    def saved_on_error(self, state: Callable[[], Mapping[str, Tensor]]) -> Iterator[None]:
        """Save `state()` where the body raises, also on an interrupt by the keyboard; the body must not change it."""
        try:
            yield
        except BaseException:
            self.save(state())
            raise

    def close(self) -> None:
        """Remove the file: the work is done and its result is in the caller's hands."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _begins_as_ours(path: Path) -> bool:
    """Whether the first entry of the archive is the settings, or nothing but zeros is left after a loss of power."""
    with path.open("rb") as file:
        head = file.read(HEADER + len(FIRST))
    return head[HEADER:] == FIRST or not head.strip(b"\0")


def fingerprint(tensor: Tensor) -> str:
    """A hash of the tensor's bits: where settings hold a tensor, this stands for it."""
    return hashlib.sha256(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()[:16]


def _own(arrays: Mapping[str, Tensor]) -> dict[str, Any]:
    own = {}
    for name, tensor in arrays.items():
        narrow = tensor.dtype == torch.bfloat16
        kept = tensor.detach().cpu()
        own[name + BFLOAT16 * narrow] = (kept.view(torch.int16) if narrow else kept).numpy()
    return own


def _tensor(name: str, array: np.ndarray[Any, np.dtype[Any]]) -> tuple[str, Tensor]:
    """An array of the file under the name and in the type it was saved with: the inverse of `_own`."""
    tensor = torch.from_numpy(array)
    return name.removesuffix(BFLOAT16), tensor.view(torch.bfloat16) if name.endswith(BFLOAT16) else tensor
