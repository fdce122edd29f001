"""The record of a walk over many points: a line of JSON a point, see `line_journal.py`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from landscape.storage.event_log import LineJournal


class WalkJournal:
    """State of one walk; the arguments are those of `LineJournal`."""

    def __init__(self, path: Path, settings: Mapping[str, Any], losses: Tensor) -> None:
        self.lines = LineJournal(path, settings, losses)

    def read(self) -> dict[int, Tensor]:
        """The points done, by index. Raises ValueError if the file is unreadable or belongs to another walk."""
        points, path = self.lines.read(), self.lines.path
        try:
            return {int(index): torch.tensor(row, dtype=torch.float64, device="cpu") for index, row in points}
        except (ValueError, TypeError) as error:
            raise ValueError(f"checkpoint {path} is not readable: {error}; delete it to start again") from error

    @contextmanager
    def opened(self) -> Iterator[Callable[[int, Tensor], None]]:
        """A function that keeps the values of a point, by its index."""
        with self.lines.opened() as keep:
            yield lambda index, row: keep([index, row.tolist()])


@contextmanager
def kept(journal: WalkJournal | None) -> Iterator[Callable[[int, Tensor], None]]:
    """What keeps the values of a point: nothing does where there is no journal."""
    if journal is None:
        yield lambda _index, _row: None
    else:
        with journal.opened() as keep:
            yield keep
