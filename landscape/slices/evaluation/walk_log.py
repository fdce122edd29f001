"""The record of a walk over many points: a line of JSON a point, see `storage/event_log.py`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from landscape.checks import integer_in, require
from landscape.storage.event_log import EventLog


class WalkLog(EventLog):
    """State of one walk; the arguments are those of `EventLog`, and the shape (points, ...) of its values."""

    def __init__(self, path: Path, settings: Mapping[str, Any], losses: Tensor, shape: Sequence[int]) -> None:
        super().__init__(path, settings, losses)
        self.shape = tuple(shape)

    def rows(self) -> dict[int, Tensor]:
        """The points done, by index. Raises ValueError if the file is of another kind or belongs to another walk."""
        return dict(self.read(self._row))

    def _row(self, content: Any) -> tuple[int, Tensor]:
        index, row = content
        integer_in("index", index, 0, self.shape[0] - 1)
        values = torch.tensor(row, dtype=torch.float64, device="cpu")
        require(values.shape == self.shape[1:], f"values must have the shape {self.shape[1:]}")
        return index, values


@contextmanager
def kept(log: WalkLog | None) -> Iterator[Callable[[int, Tensor], None]]:
    """What keeps the values of a point by its index: nothing does where there is no log."""
    if log is None:
        yield lambda _index, _row: None
    else:
        with log.opened() as keep:
            yield lambda index, row: keep([index, row.tolist()])
