"""The record of many small pieces of work: a line of JSON a piece, written as soon as it is done.

A killed run loses only what was in flight. Appending costs microseconds where replacing a file costs milliseconds;
floats are written so that they come back to the bit; a line that was cut short is written anew. The first line holds
the settings and the losses where the work began.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from landscape.checks import require

SAME_LOSS = 1e-3  # relative; the order of a sum may change between runs, the data may not


class EventLog:
    """State of one piece of work after another.

    Args:
        path: of a text file.
        settings: what must be the same to go on, as JSON can hold it.
        losses: (splits,), at the model's own weights: other data, criteria or frozen weights give others.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], losses: Tensor) -> None:
        self.path, self.losses = path, losses
        self.settings = json.loads(json.dumps(settings))

    def read(self) -> list[Any]:
        """What is done. Raises ValueError if the file is unreadable or belongs to other work."""
        content = self.path.read_bytes() if self.path.exists() else b""
        if not content:
            return []
        try:
            head, *entries = [json.loads(line) for line in _whole(content).splitlines()]
            settings, losses = head["settings"], torch.tensor(head["losses"], dtype=torch.float64, device="cpu")
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"resume file {self.path} is not readable: {error}; delete it to start again") from error
        self._require_same(settings, losses)
        return entries

    @contextmanager
    def opened(self) -> Iterator[Callable[[Any], None]]:
        """A function that keeps an entry."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as file:  # a line is one call to the system: whole, or not at all
            whole = _whole(self.path.read_bytes())
            file.truncate(len(whole))
            if not whole:
                file.write(_line({"settings": self.settings, "losses": self.losses.tolist()}))

            def keep(entry: Any) -> None:
                file.write(_line(entry))

            yield keep

    def _require_same(self, settings: Mapping[str, Any], losses: Tensor) -> None:
        keys = {**settings, **self.settings}
        other = [key for key in keys if settings.get(key) != self.settings.get(key)]
        if not other and not torch.allclose(losses, self.losses, rtol=SAME_LOSS, atol=0.0, equal_nan=True):
            other = ["data or criterion"]
        require(
            not other, f"resume file {self.path} was written with other {', '.join(other)}; delete it or name another"
        )


def _line(content: Any) -> bytes:
    return json.dumps(content).encode() + b"\n"


def _whole(content: bytes) -> bytes:
    """The lines that were written to their end."""
    return content[: content.rfind(b"\n") + 1]
