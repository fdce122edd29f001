"""The record of many small pieces of work: a line of JSON a piece, written as soon as it is done.

A killed run loses only what was in flight. Appending costs microseconds where replacing a file costs milliseconds;
floats are written so that they come back to the bit; a line that was cut short is written anew. The first line holds
the settings and the losses where the work began; every other one an entry and, as its last item, the entry's checksum.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from os import SEEK_END
from pathlib import Path
from typing import Any
from warnings import warn
from zlib import crc32

import torch
from torch import Tensor

from landscape.checks import require
from landscape.storage.atomic import locked
from landscape.storage.settings import as_json, differing, foreign

SAME_LOSS = 1e-3  # relative; the order of a sum may change between runs, the data may not
HEAD = b'{"settings": '  # how every log begins: what begins otherwise is a file of another kind, and stays
BROKEN = (ValueError, TypeError, KeyError, RecursionError)  # of a line that JSON or its reader cannot read


class EventLog:
    """State of one piece of work after another.

    Args:
        path: of a text file.
        settings: what must be the same to go on, as JSON can hold it.
        losses: (splits,), at the model's own weights: other data, criteria or frozen weights give others.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], losses: Tensor) -> None:
        self.path, self.settings, self.losses = path, as_json(settings), losses
        self.taken = 0  # bytes that `read` has understood

    def read(self, entry: Callable[[Any], Any] = lambda content: content) -> list[Any]:
        """What is done; from the first line that is none on it counts as not done, with a warning.

        Args:
            entry: what is made of a line's content; it may raise ValueError, TypeError or KeyError.
        Raises:
            ValueError: if the file is of another kind or belongs to other work.
        """
        content = self.path.read_bytes() if self.path.exists() else b""
        head, *lines = content.splitlines(keepends=True) or [b""]
        if not head.endswith(b"\n") and (HEAD.startswith(head[: len(HEAD)]) or not content.strip(b"\0")):
            return []  # nothing, or cut short by a kill or a loss of power
        self._require_same(head)
        self.taken, found = len(head), []
        for number, line in enumerate(lines, start=2):
            if not line.endswith(b"\n"):
                break  # it was in flight
            try:
                found.append(entry(_checked(json.loads(line))))
            except BROKEN:
                warn(f"{self.path}: line {number} is not readable; from there on it is done again", stacklevel=2)
                break
            self.taken += len(line)
        return found

    @contextmanager
    def opened(self) -> Iterator[Callable[[list[Any]], None]]:
        """A function that keeps an entry after those that `read` gave, or raises an OSError in one line.

        Raises:
            ValueError: if another process has the file open.
        """
        lock = self.path.with_name(f".{self.path.name}.lock")
        with locked(lock, "resume file", self.path), self.path.open("ab", buffering=0) as file:

            def write(content: Any) -> None:
                before, rest = file.seek(0, SEEK_END), json.dumps(content).encode() + b"\n"
                try:
                    while rest:  # a full disk takes a part of it first
                        rest = rest[file.write(rest) :]
                except OSError as error:
                    file.truncate(before)
                    raise OSError(f"{self.path} cannot be written: {error.strerror}; make room, then go on") from error

            try:
                file.truncate(self.taken)
                if not self.taken:
                    write({"settings": self.settings, "losses": self.losses.tolist()})
                yield lambda entry: write([*entry, _checksum(entry)])
            finally:
                lock.unlink(missing_ok=True)

    def _require_same(self, head: bytes) -> None:
        if not head.startswith(HEAD):
            raise foreign(self.path)
        try:
            content = json.loads(head)
            other = list(differing(dict(content["settings"]), self.settings))
            losses = torch.tensor(content["losses"], dtype=torch.float64, device="cpu")
        except BROKEN as error:
            raise ValueError(f"resume file {self.path} is not readable: {error}; delete it to start again") from error
        same = losses.shape == self.losses.shape and torch.allclose(losses, self.losses, SAME_LOSS, 0.0, equal_nan=True)
        other = other or ([] if same else ["data or criterion"])
        require(
            not other, f"resume file {self.path} was written with other {', '.join(other)}; delete it or name another"
        )


def _checksum(entry: list[Any]) -> str:
    return f"crc32 {crc32(json.dumps(entry).encode()):08x}"


def _checked(line: Any) -> Any:
    """The entry of a line; those of earlier versions have no checksum. Raises ValueError if it was changed."""
    if not (isinstance(line, list) and line and str(line[-1]).startswith("crc32 ")):
        return line
    require(line[-1] == _checksum(line[:-1]), "changed after it was written")
    return line[:-1]
