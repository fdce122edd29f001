"""Coordinates to weights: the line, plane or bundle of lines that directions span through a network's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from landscape.checks import require, vector_like
from landscape.processes.space import Space
from landscape.storage.array_checkpoint import fingerprint
from landscape.vectors import Vector

Buffers = dict[str, Tensor]


@runtime_checkable
class Parametrisation(Protocol):
    """Coordinates to a network; those that are all 0 to the problem's own."""

    @property
    def axes(self) -> int:
        """How many coordinates a point has."""

    def at(self, point: Sequence[float]) -> tuple[Vector, Buffers]:
        """The weights there, and the buffers that replace the model's own."""


@dataclass(frozen=True, eq=False)
class Plane:
    """Points w + Σ_i a_i d_i.

    Args:
        w: (P,), the point with coordinates 0.
        directions: name to d_i, (P,).
        space: of (P,), where it is dealt out to processes.
    Raises:
        ValueError: if a direction does not fit w, is zero or not finite.
    """

    w: Vector
    directions: Mapping[str, Tensor]
    space: Space | None = None

    def __post_init__(self) -> None:
        space = self.space or Space(len(self.w))
        with space.agreed():
            for name, direction in self.directions.items():
                vector_like(name, direction, self.w)
        for name, direction in self.directions.items():
            norm = float(space.norms(direction))
            require(0 < norm < torch.inf, f"{name} must be finite and not zero, got norm {norm}")

    @property
    def axes(self) -> int:
        return len(self.directions)

    def at(self, point: Sequence[float]) -> tuple[Vector, Buffers]:
        w = self.w
        for step, direction in zip(point, self.directions.values(), strict=True):
            w = w + step * direction if step else w  # so that the centre is w to the bit
        return w, {}

    def settings(self) -> dict[str, str]:
        """What tells this plane from another, for a journal."""
        named = {"weights": self.w, **self.directions}
        return {name: fingerprint(vector) for name, vector in named.items()}
