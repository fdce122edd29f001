"""Frozen results over a plane through the weights other than its losses: a map of some quantity, and its topology."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from landscape.checks import not_negative
from landscape.storage.results.record import Result
from landscape.storage.results.shown import Lines, Table, span


@dataclass(frozen=True, eq=False, repr=False)
class Map2D(Table, Result):
    """A quantity on the plane w + x d1 + y d2: `values[j, i]` belongs to (x[i], y[j]). NaN where it is undefined."""

    x: Tensor  # (nx,)
    y: Tensor  # (ny,)
    values: Tensor  # (ny, nx)
    errors: Tensor  # (ny, nx), how far off a value may be; infinite where nothing is known, 0 up to rounding
    what: str  # the quantity as a label, such as "|λmin / λmax|"
    details: Mapping[str, Any] = field(default_factory=dict)  # settings and costs, as JSON holds them
    parts: Mapping[str, Tensor] = field(default_factory=dict)  # what the values are made of, name -> (ny, nx)

    def _facts(self) -> dict[str, Any]:
        place = {"x": span(self.x), "y": span(self.y), "points": f"{len(self.x)} x {len(self.y)}"}
        return {"": self.what, **place, "values": span(self.values), "errors": span(self.errors)}

    def _columns(self) -> dict[str, Tensor]:
        flat = {"value": self.values, "error": self.errors, **self.parts}
        place = {"x": self.x.repeat(len(self.y)), "y": self.y.repeat_interleave(len(self.x))}
        return place | {name: own.reshape(-1) for name, own in flat.items()}

    def _preview(self) -> Lines:
        return []


@dataclass(frozen=True, eq=False, repr=False)
class Persistence(Table, Result):
    """Persistent homology of a grid's sublevel sets {value <= t} as t rises: n classes, the longest-lived first.

    In dimension 0 a class is a basin: it is born at its minimum and dies where it flows over into a deeper one. In
    dimension 1 it is a ring around a hill: born at the saddle that closes it, it dies at the summit.
    Indices are (row, column) of the grid, so that the value there is `values[row, column]`.
    """

    birth: Tensor  # (n,)
    death: Tensor  # (n,), infinite for a class that never dies: the deepest basin of each connected region
    minimum: Tensor  # (n, 2), where the class is born
    saddle: Tensor  # (n, 2), where it dies; -1 for one that does not
    parent: Tensor  # (n,), the deeper basin it flows into: the merge tree; -1 for a root, and in dimension 1
    dimension: int = 0

    def _facts(self) -> dict[str, Any]:
        return {"classes": len(self.birth), "dimension": self.dimension, "birth": span(self.birth)}

    def _columns(self) -> dict[str, Tensor]:
        ends = {"minimum": self.minimum, "saddle": self.saddle}
        places = {f"{end}_{part}": at[:, i] for end, at in ends.items() for i, part in enumerate(("row", "column"))}
        return {"birth": self.birth, "death": self.death, "lifetime": self.lifetime, **places, "parent": self.parent}

    @property
    def lifetime(self) -> Tensor:
        """death - birth, (n,): for a basin its depth, the barrier seen from its minimum."""
        return self.death - self.birth

    def basins(self, threshold: float = 0.0) -> int:
        """How many classes live longer than `threshold`. Raises ValueError if it is negative."""
        not_negative("threshold", threshold)
        return int((self.lifetime > threshold).sum())
