"""What a computation costs in gradient-times, counted where the passes over the data happen.

A pass is charged to every bill that is open: the units it has seen times what its term costs, in gradients of one unit
of data. Rates: a forward pass 1/3, since a backward pass takes two; a gradient 1; a Hessian product 2 from the graph of
the gradient, which costs 1 to build, 3 by forward over reverse and 4 by differences; a Gauss-Newton product 4/3. They
are counts, the same on every machine: many small batches cost no more than one large, though they take longer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from math import sqrt

FORWARD, GRADIENT = 1 / 3, 1.0
HESSIAN, FORWARD_OVER_REVERSE, DIFFERENCES, GAUSS_NEWTON = 2.0, 3.0, 4.0, 4 / 3  # a product


@dataclass(frozen=True)
class Range:
    """Between which two costs work will end that stops when it has converged."""

    least: float
    most: float

    @classmethod
    def of(cls, cost: "float | Range") -> "Range":
        """A cost that is known has two equal ends."""
        return cost if isinstance(cost, Range) else cls(cost, cost)

    @property
    def middle(self) -> float:
        """Their geometric mean, our choice: most ascents end near it, few at the cap."""
        return sqrt(self.least * self.most)

    def __add__(self, other: "float | Range") -> "Range":
        other = Range.of(other)
        return Range(self.least + other.least, self.most + other.most)

    __radd__ = __add__

    def __mul__(self, factor: float) -> "Range":
        return Range(factor * self.least, factor * self.most)

    def __str__(self) -> str:
        least, most = f"{self.least:.0f}", f"{self.most:.0f}"
        return least if least == most else f"{least}-{most}"


@dataclass
class Bill:
    """Work done while it is open, in gradients of one unit of data."""

    work: float = 0.0
    disagreements: list[float] = field(default_factory=list)  # of verified operators; NaN where nothing was decided


@dataclass
class Extent:
    """How much data a pass sees; 0 batches until one has been counted."""

    units: float = 0.0
    batches: int = 0
    complete: bool = False

    def add(self, units: float) -> None:
        """One batch more."""
        self.units, self.batches = self.units + units, self.batches + 1

    def __str__(self) -> str:
        return f"{self.units:,.10g} units in {self.batches:,} batch{'es' * (self.batches != 1)}"


_open: ContextVar[tuple[Bill, ...]] = ContextVar("open", default=())


@contextmanager
def billed() -> Iterator[Bill]:
    """A bill for what happens inside. Bills may be nested: the outer one holds the inner one's work."""
    bill = Bill()
    token = _open.set((*_open.get(), bill))
    try:
        yield bill
    finally:
        _open.reset(token)


def charge(work: float) -> None:
    """Put work on every open bill."""
    for bill in _open.get():
        bill.work += work


def note_verification(disagreement: float | None) -> None:
    """Put on every open bill how far an operator's first product agreed with differences."""
    for bill in _open.get():
        bill.disagreements.append(float("nan") if disagreement is None else disagreement)
