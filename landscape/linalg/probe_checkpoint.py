"""The checkpoint of work on random probes: the generator's state is kept beside the arrays, so that it draws on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from landscape.checks import require
from landscape.linalg.scaled import Scaled
from landscape.storage.array_checkpoint import ArrayCheckpoint, fingerprint


class ProbeCheckpoint(ArrayCheckpoint):
    """State of one estimate; without a path it keeps nothing.

    Args:
        path: of the state, ending in .npz; None switches it off.
        operator: the file is refused by one of another size or precision; that it is the same one is the caller's care.
            Its scale is kept with the state.
        source: the generator; where it starts belongs to the settings, and `load` puts it where the work stopped.
        settings: what else decides the numbers.
    """

    def __init__(
        self, path: str | Path | None, operator: Scaled, source: torch.Generator, settings: Mapping[str, Any]
    ) -> None:
        require(path is None or not operator.space.dealt_out, f"resume must be None for a sharded model, got {path}")
        whose = {"size": operator.shape[0], "dtype": str(operator.dtype), "generator": fingerprint(source.get_state())}
        super().__init__(path, {**settings, **whose})
        self.source, self.operator = source, operator

    def load(self) -> dict[str, Tensor]:
        """What was last saved, on the operator's device; empty at the start."""
        found = super().load()
        if found is None:
            return {}
        self.source.set_state(found.pop("generator"))
        self.operator.load(found)
        return {name: tensor.to(self.operator.device) for name, tensor in found.items()}

    def save(self, arrays: Mapping[str, Tensor]) -> None:
        """Replace the file."""
        super().save({**arrays, **self.operator.state(), "generator": self.source.get_state()})
