"""The record of a walk over many points: a line of JSON a point, see `storage/event_log.py`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from landscape.storage.event_log import EventLog


class WalkLog:
    """State of one walk; the arguments are those of `EventLog`."""

    def __init__(self, path: Path, settings: Mapping[str, Any], losses: Tensor) -> None:
        self.lines = EventLog(path, settings, losses)

    def read(self) -> dict[int, Tensor]:
        """The points done, by index. Raises ValueError if the file is unreadable or belongs to another walk."""
        points, path = self.lines.read(), self.lines.path
        try:
            return {int(index): torch.tensor(row, dtype=torch.float64, device="cpu") for index, row in points}
        except (ValueError, TypeError) as error:
            raise ValueError(f"resume file {path} is not readable: {error}; delete it to start again") from error

    @contextmanager
    def opened(self) -> Iterator[Callable[[int, Tensor], None]]:
        """A function that keeps the values of a point, by its index."""
        with self.lines.opened() as keep:
            yield lambda index, row: keep([index, row.tolist()])


@contextmanager
def kept(log: WalkLog | None) -> Iterator[Callable[[int, Tensor], None]]:
    """What keeps the values of a point: nothing does where there is no log."""
    if log is None:
        yield lambda _index, _row: None
    else:
        with log.opened() as keep:
            yield keep
