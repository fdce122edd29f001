"""Frozen results along lines, planes and paths through the weights: losses, and what is drawn over them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from landscape.checks import one_of, require
from landscape.storage.results.record import Result
from landscape.storage.results.shown import Lines, Table, cell, span


@dataclass(frozen=True, eq=False, repr=False)
class Slice1D(Table, Result):
    """Loss and accuracy along w + x d. A NaN loss stays NaN."""

    x: Tensor  # (n,)
    loss: Mapping[str, Tensor]  # split -> (n,)
    accuracy: Mapping[str, Tensor]  # split -> (n,), 0..1; NaN where it cannot be known, see details
    loss_stderr: Mapping[str, Tensor] = field(default_factory=dict)  # split -> (n,), 0 of a whole split; or empty
    details: Mapping[str, Any] = field(default_factory=dict)  # units {split: N}, batch_norm, subset, seconds, ...

    def _facts(self) -> dict[str, Any]:
        return {"x": span(self.x), "points": len(self.x), **_made(self.details)}

    def _columns(self) -> dict[str, Tensor]:
        return {"x": self.x, **_by_split(self)}

    def _preview(self) -> Lines:
        return _ranges(self)


@dataclass(frozen=True, eq=False, repr=False)
class SliceBand(Table, Result):
    """Loss and accuracy along K lines w + x d_k. NaN stays NaN."""

    x: Tensor  # (n,)
    loss: Mapping[str, Tensor]  # split -> (K, n)
    accuracy: Mapping[str, Tensor]  # split -> (K, n), 0..1
    loss_stderr: Mapping[str, Tensor] = field(default_factory=dict)  # split -> (K, n), as in Slice1D
    details: Mapping[str, Any] = field(default_factory=dict)

    def _facts(self) -> dict[str, Any]:
        return {"lines": self._count, "x": span(self.x), "points": len(self.x), **_made(self.details)}

    def _columns(self) -> dict[str, Tensor]:
        line = torch.arange(self._count, device="cpu").repeat_interleave(len(self.x))
        return {"line": line, "x": self.x.repeat(self._count), **_by_split(self)}

    def _preview(self) -> Lines:
        return _ranges(self)

    @property
    def _count(self) -> int:
        return len(next(iter(self.loss.values()), self.x[:0]))

    def mean(self, split: str, *, what: str = "loss") -> Tensor:
        """Mean over the lines, (n,), of "loss" or "accuracy"; NaN where a line is."""
        return self._lines(split, what).mean(0)

    def band(self, split: str, *, what: str = "loss", level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Lower and upper edge, (n,) each, of what the central share `level` of the lines keeps to, point by point.

        The spread of single lines, not the error of their mean: the quantiles' nearest lines, so that an infinite loss
        stays infinite; 1 is from the lowest line to the highest. NaN where a line is.
        """
        require(0 < level <= 1, f"level must be in (0, 1], got {level!r}")
        edges = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64, device="cpu")
        low, high = self._lines(split, what).quantile(edges, dim=0, interpolation="nearest")
        return low, high

    def _lines(self, split: str, what: str) -> Tensor:
        one_of("what", what, ("loss", "accuracy"))
        lines: Mapping[str, Tensor] = getattr(self, what)
        one_of("split", split, tuple(lines))
        return lines[split].double()


@dataclass(frozen=True, eq=False, repr=False)
class Slice2D(Table, Result):
    """Loss and accuracy on the plane w + x d1 + y d2: `loss[split][j, i]` belongs to (x[i], y[j]). NaN stays NaN."""

    x: Tensor  # (nx,)
    y: Tensor  # (ny,)
    loss: Mapping[str, Tensor]  # split -> (ny, nx)
    accuracy: Mapping[str, Tensor]  # split -> (ny, nx)
    norms: Tensor  # (2,), |d1| and |d2|
    cosine: Tensor  # (), of the angle between d1 and d2
    loss_stderr: Mapping[str, Tensor] = field(default_factory=dict)  # split -> (ny, nx), as in Slice1D
    details: Mapping[str, Any] = field(default_factory=dict)

    def _facts(self) -> dict[str, Any]:
        points = f"{len(self.x)} x {len(self.y)}"
        cosine = float(self.cosine.detach())
        return {"x": span(self.x), "y": span(self.y), "points": points, "cosine": cosine, **_made(self.details)}

    def _columns(self) -> dict[str, Tensor]:
        place = {"x": self.x.repeat(len(self.y)), "y": self.y.repeat_interleave(len(self.x))}
        return place | _by_split(self)

    def _preview(self) -> Lines:
        return _ranges(self)


@dataclass(frozen=True, eq=False, repr=False)
class Trajectory(Table, Result):
    """A training run seen on the plane w + x d1 + y d2; the losses are the snapshots' own, not the plane's."""

    steps: Tensor  # (T,), int64
    coordinates: Tensor  # (T, 2), x and y of the nearest point of the plane
    off_plane: Tensor  # (T,), distance from that point
    distance: Tensor  # (T,), |w_t - w|
    loss: Mapping[str, Tensor]  # split -> (T,)
    explained: Tensor  # (2,), share of sum_t |w_t - w|^2 along d1, and along what of d2 is orthogonal to d1

    def _facts(self) -> dict[str, Any]:
        one, two = self.explained.detach().tolist()
        return {"snapshots": len(self.steps), "steps": span(self.steps), "explained": f"{one:.0%} and {two:.0%}"}

    def _columns(self) -> dict[str, Tensor]:
        x, y = self.coordinates.unbind(1)
        place = {"step": self.steps, "x": x, "y": y, "off_plane": self.off_plane, "distance": self.distance}
        return place | {f"loss_{split}": loss for split, loss in self.loss.items()}


@dataclass(frozen=True, eq=False, repr=False)
class BezierPath(Result):
    """A curve of networks from `start`, t = 0, to `end`, t = 1: see `BezierPath.at`."""

    start: Tensor  # (P,)
    bend: Tensor  # (P,)
    end: Tensor  # (P,)
    kind: str = "bezier"  # or "chain": two straight pieces that meet in the bend

    def _facts(self) -> dict[str, Any]:
        return {"kind": self.kind, "P": len(self.start)}

    def weights(self, t: float) -> tuple[float, float, float]:
        """What start, bend and end count for at t: they add up to 1."""
        if self.kind == "chain":
            return max(0.0, 1 - 2 * t), 1 - abs(2 * t - 1), max(0.0, 2 * t - 1)
        return (1 - t) ** 2, 2 * t * (1 - t), t**2

    def at(self, t: float) -> Tensor:
        """The network at t, (P,): (1 - t)^2 start + 2 t (1 - t) bend + t^2 end, exactly start and end at the ends."""
        first, middle, last = self.weights(t)
        return first * self.start + middle * self.bend + last * self.end


Slices = Slice1D | SliceBand | Slice2D
MADE = ("normalize", "ignore", "seed", "batch_norm", "subset")  # details that are told


def _made(details: Mapping[str, Any]) -> dict[str, Any]:
    return {key: details.get(key) for key in MADE}


def _by_split(slice: Slices) -> dict[str, Tensor]:
    """loss_train, accuracy_train, loss_stderr_train, ...: flat, as x runs fastest."""
    kinds = {"loss": slice.loss, "accuracy": slice.accuracy, "loss_stderr": slice.loss_stderr}
    return {f"{kind}_{split}": own.reshape(-1) for kind, found in kinds.items() for split, own in found.items()}


def _ranges(slice: Slices) -> Lines:
    """What each split's numbers range over."""
    lines = [("split", "loss", "accuracy", "not finite")]
    for split, loss in slice.loss.items():
        accuracy = span(slice.accuracy[split]) if split in slice.accuracy else ""
        lines.append((split, span(loss), accuracy, cell(int((~loss.isfinite()).sum()))))
    return lines
