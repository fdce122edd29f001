"""The journal of a walk over many points: values, a mask of the points done, and the losses where the walk began."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from landscape.checks import require
from landscape.journal import Journal

SAME_LOSS = 1e-3  # relative; the order of a sum may change between runs, the data may not


class WalkJournal:
    """State of one walk.

    Args:
        path: an .npz file.
        settings: what must be the same to go on, as JSON can hold it.
        losses: (splits,), at the model's own weights: other data, criteria or frozen weights give others.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], losses: Tensor) -> None:
        self.journal, self.losses = Journal(path, settings), losses

    @contextmanager
    def kept(self, values: Tensor, done: Tensor) -> Iterator[Callable[[], None]]:
        """Fill `values` (2, points, splits) and `done` (points,) from the file; write them now and then and at the end.

        Yields:
            A function to call after each point.
        Raises:
            ValueError: if the file belongs to another walk.
        """
        self._read_into(values, done)
        state = {"values": values, "done": done, "losses": self.losses}
        try:
            yield lambda: self.journal.save_if_due(lambda: state)
        finally:
            self.journal.save(state)

    def _read_into(self, values: Tensor, done: Tensor) -> None:
        stored = self.journal.read()
        if stored is None:
            return
        other, arrays = list(stored.other), stored.arrays
        if not other and not torch.allclose(arrays["losses"], self.losses, rtol=SAME_LOSS, atol=0.0, equal_nan=True):
            other = ["data or criterion"]
        require(
            not other,
            f"checkpoint {self.journal.path} was written with other {', '.join(other)}; delete it or name another",
        )
        values.copy_(arrays["values"])
        done.copy_(arrays["done"])
