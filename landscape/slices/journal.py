"""A walk over many points that survives being killed: values, a mask of the points done, and what they belong to."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from landscape.checks import require

EVERY = 5.0  # seconds between writes; a write takes about a millisecond
SAME_LOSS = 1e-3  # relative; the order of a sum may change between runs, the data may not


@dataclass(frozen=True)
class Journal:
    """Where a walk is kept.

    Attributes:
        path: an .npz file.
        settings: what must be the same to go on, as JSON can hold it.
        losses: (splits,), at the model's own weights: other data, criteria or frozen weights give others.
    """

    path: Path
    settings: Mapping[str, Any]
    losses: Tensor

    @contextmanager
    def kept(self, values: Tensor, done: Tensor) -> Iterator[Callable[[], None]]:
        """Fill `values` (2, points, splits) and `done` (points,) from the file; write them now and then and at the end.

        Yields:
            A function to call after each point.
        Raises:
            ValueError: if the file belongs to another walk.
        """
        if self.path.exists():
            self._read_into(values, done)
        last = monotonic()

        def keep() -> None:
            nonlocal last
            if monotonic() - last >= EVERY:
                self._write(values, done)
                last = monotonic()

        try:
            yield keep
        finally:
            self._write(values, done)

    def _read_into(self, values: Tensor, done: Tensor) -> None:
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                settings = json.loads(str(stored["settings"]))
                losses, *arrays = (torch.from_numpy(stored[name]) for name in ("losses", "values", "done"))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise ValueError(f"checkpoint {self.path} is not readable: {error}; delete it") from error
        other = [key for key, value in self.settings.items() if settings.get(key) != value]
        if not other and not torch.allclose(losses, self.losses, rtol=SAME_LOSS, atol=0.0, equal_nan=True):
            other = ["data or criterion"]
        require(
            not other, f"checkpoint {self.path} was written with other {', '.join(other)}; delete it or name another"
        )
        for tensor, array in zip((values, done), arrays, strict=True):
            tensor.copy_(array)

    def _write(self, values: Tensor, done: Tensor) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".partial")
        with partial.open("wb") as file:
            np.savez(
                file,
                values=values.numpy(),
                done=done.numpy(),
                losses=self.losses.numpy(),
                settings=json.dumps(self.settings),
            )
        partial.replace(self.path)
