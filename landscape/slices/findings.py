"""What a grid of losses tells of itself: gaps, range, ruggedness, and how its two axes stand to each other.

Each finding is a number with what it means in words, and, where a reader would be misled, what to do.
"""

from dataclasses import dataclass
from itertools import combinations
from math import inf

import torch
from torch import Tensor

from landscape.storage.results import Slice2D

GROWTH = 2.0  # a border where the loss is not even doubled shows no basin
STEP = 0.5  # of the typical rise within one step of the star: the basin falls between the points
ALTERNATION = -0.3  # correlation of neighbouring second differences: 1 for a smooth curve, -2/3 for pure noise
RUGGED = 1e-4  # of the range: what alternates less is not seen in a figure
LEVEL = 1e-6  # of the star's loss: what differs by less is the same
STILL = (
    "nothing that it depends on moves along the directions. Filters whose weights are all 0, as LoRA's B, stand still "
    "under filter normalisation: take normalize='model'"
)
SLANT, UNEQUAL = 0.1, 3.0  # cosine; ratio of norms


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    name: str
    ok: bool
    value: float
    words: str


def finite(slice: Slice2D, split: str) -> Finding:
    """The share of points that are NaN or infinite."""
    share = float((~slice.loss[split].isfinite()).double().mean())
    if share == 0:
        return Finding("finite", True, share, f"every {split} loss is finite")
    words = f"{share:.1%} of the {split} losses are NaN or infinite, shown hatched; a smaller range avoids them"
    return Finding("finite", False, share, words)


def growth(slice: Slice2D, split: str) -> Finding:
    """How many times the star's loss the border has, at the median, and whether one step from the star spans it all."""
    loss, (row, column) = slice.loss[split], nearest_to_zero(slice)
    star = float(loss[row, column])
    border = torch.cat([loss[0], loss[-1], loss[:, 0], loss[:, -1]])
    around = loss[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
    if not (star > 0 and border.isfinite().any()):
        return Finding("range", True, float("nan"), f"{split}: no growth to tell, the star's loss is {star:.3g}")
    factor, rise, first = (_median(part) for part in (border / star, loss - star, around - star))
    told = f"{split}: at the border the loss is {factor:.3g} times the star's {star:.3g}"
    if bool(((loss - star).abs() <= LEVEL * abs(star)).all()):
        return Finding("range", False, factor, f"{split}: the loss is {star:.6g} everywhere: {STILL}")
    if factor < GROWTH:
        return Finding("range", False, factor, f"{told}; walk further to see where the basin ends")
    if first > STEP * rise:
        words = f"{told}, but {first / rise:.0%} of the typical rise is within one step of the star"
        return Finding("range", False, factor, f"{words}; take a smaller range or more points")
    return Finding("range", True, factor, told)


def lowest(slice: Slice2D, split: str) -> Finding:
    """How far below the star's loss the lowest point lies; a fact, no fault."""
    loss, (row, column) = slice.loss[split], nearest_to_zero(slice)
    known = loss.nan_to_num(nan=torch.inf)
    star, least = float(loss[row, column]), float(known.min())
    j, i = divmod(int(known.argmin()), len(slice.x))
    if not least < star:
        return Finding("lowest", True, 0.0, f"{split}: the star is the lowest point")
    where = f"({float(slice.x[i]):.3g}, {float(slice.y[j]):.3g})"
    return Finding("lowest", True, star - least, f"{split}: {where} is lowest, {star - least:.3g} below the star")


def ruggedness(slice: Slice2D, split: str) -> Finding:
    """The size of second differences that change sign from point to point, as a share of the range.

    Rows one cell off each other, noise in the loss and lost digits alternate; a smooth surface does not.
    """
    known = slice.loss[split].double().where(slice.loss[split].isfinite(), torch.nan)
    known = known / known.nan_to_num().abs().max().clamp(min=torch.finfo(torch.float64).tiny)
    span = float((known - known.nan_to_num(nan=torch.inf).min()).nan_to_num().max())
    worst, axis = max(((_alternating(lines), name) for name, lines in (("x", known), ("y", known.T))))
    share = worst / span if span > 0 else 0.0
    if share <= RUGGED:
        return Finding("smooth", True, share, f"{split}: no zigzag along x or y")
    words = f"{split}: along {axis} the loss zigzags from point to point by {share:.1%} of its range"
    return Finding("smooth", False, share, f"{words}; use the same data without random transforms, or more digits")


def angle(slice: Slice2D) -> Finding:
    """The cosine of the two directions."""
    cosine = float(slice.cosine)
    if abs(cosine) <= SLANT:
        return Finding("angle", True, cosine, f"the directions are close to orthogonal, cosine {cosine:.3f}")
    words = (
        f"the directions have cosine {cosine:.3f}, but are drawn at a right angle, so that circles look like ellipses"
    )
    return Finding("angle", False, cosine, f"{words}; make d2 orthogonal to d1")


def lengths(slice: Slice2D) -> Finding:
    """The ratio of the longer direction to the shorter."""
    ratio = float(slice.norms.max() / slice.norms.min())
    if ratio <= UNEQUAL:
        return Finding("lengths", True, ratio, f"a step of 1 is about as long along both axes, ratio {ratio:.3g}")
    words = f"a step of 1 along one axis is {ratio:.3g} times as long as along the other"
    return Finding("lengths", False, ratio, f"{words}; normalise both directions the same way")


def own_data(slice: Slice2D) -> Finding:
    """The largest difference between the losses of two splits, over all pairs of them the smallest."""
    apart = {
        f"{one} and {other}": float((slice.loss[one] - slice.loss[other]).abs().nan_to_num(0.0, inf).max())
        for one, other in combinations(slice.loss, 2)
    }
    pair = min(apart, key=apart.__getitem__)
    if apart[pair] > 0:
        return Finding("splits", True, apart[pair], f"{pair} have losses of their own, up to {apart[pair]:.3g} apart")
    words = f"{pair} have the same loss at every point, as the same data have; give each its own, or leave one out"
    return Finding("splits", False, 0.0, words)


def nearest_to_zero(slice: Slice2D) -> tuple[int, int]:
    """Row and column of the point nearest to the network."""
    return int(slice.y.abs().argmin()), int(slice.x.abs().argmin())


def _alternating(lines: Tensor) -> float:
    """Root mean square of the noise that the second differences along axis 1 hold, 0 where they do not alternate."""
    second = lines.diff(n=2, dim=1)
    pairs = (second[:, 1:] * second[:, :-1]).nanmean()
    squares = second.square().nanmean()
    return float((squares / 6).sqrt()) if pairs < ALTERNATION * squares else 0.0  # noise of variance v: 6 v


def _median(values: Tensor) -> float:
    return float(values[values.isfinite()].median()) if values.isfinite().any() else float("nan")
