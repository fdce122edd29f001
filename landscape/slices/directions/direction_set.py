"""Directions as one value: unpack them, d1, d2 = ..., or ask for their norms and cosines."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from landscape.checks import require
from landscape.processes.space import Space
from landscape.storage.results.shown import Shown
from landscape.vectors import Vector

PARALLEL = 1e-6  # of a vector's length: less than that is rounding


class Directions(Shown, tuple[Vector, ...]):
    """Vectors (P,) in parameter space, and how they were made.

    Attributes:
        details: what made them, in plain JSON values: "kind", and its settings.
    """

    details: dict[str, Any]
    space: Space | None  # of (P,), where it is dealt out to processes

    def __new__(cls, vectors: Iterable[Tensor], space: Space | None = None, **details: Any) -> "Directions":
        made = super().__new__(cls, vectors)
        made.details, made.space = details, space
        return made

    def _facts(self) -> dict[str, Any]:
        told = {name: own for name, own in self.details.items() if isinstance(own, str | int | float)}
        return {"": f"{len(self)} of P = {self[0].numel():,}", **told}

    @property
    def norms(self) -> Tensor:
        """|d_i|, (K,) float64."""
        return self._gram().diagonal().sqrt()

    @property
    def cosines(self) -> Tensor:
        """Cosines of the angles between them, (K, K) float64; NaN for a zero vector."""
        norms = self.norms
        return self._gram() / torch.outer(norms, norms)

    def _gram(self) -> Tensor:
        wide = torch.stack(list(self)).double().cpu()
        return wide @ wide.T if self.space is None else self.space.added(wide @ wide.T)


def orthogonalised(vectors: Iterable[Tensor], space: Space | None = None) -> list[Vector]:
    """Gram-Schmidt, in float64 and twice; each vector keeps its norm, the first one is as it was.

    Raises:
        ValueError: if a vector lies in the span of those before it.
    """
    basis: list[Tensor] = []
    made: list[Vector] = []
    for index, vector in enumerate(vectors):
        wide = vector.double()
        rest, own = wide, space or Space(len(vector))
        for known in basis * 2:
            rest = rest - own.inner(known, rest) * known
        norm, left = own.norms(wide), own.norms(rest)
        require(
            bool(left > PARALLEL * norm),
            f"direction {index + 1} must not lie in the span of those before it; choose another",
        )
        basis.append(rest / left)
        made.append((basis[-1] * norm).to(vector) if index else vector)
    return made
