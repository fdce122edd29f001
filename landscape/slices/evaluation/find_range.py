"""How far to look: where the loss has grown tenfold."""

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt

from landscape.checks import require
from landscape.slices.evaluation.evaluator import SliceEvaluator
from landscape.slices.findings import LEVEL, STILL

GROWTH = 10.0
HALVINGS = 5  # of the logarithm of a factor 2 in which the range lies: known to 2^(1/64), about 1 %
FARTHEST = 2.0**30


def find_range(evaluator: SliceEvaluator, axes: Sequence[int]) -> float:
    """The distance at which the first split's loss is tenfold that at the centre, on one side of one of the axes.

    By bisection, some ten probes: 1, 2, 4, ... or 1, 1/2, 1/4, ... until the loss is above and below on two of them,
    then the geometric mean of what is left. On L = L₀ + λ a² / 2 it is √(18 L₀ / λ). NaN and infinity count as grown.

    Args:
        evaluator: what is measured; its first split is.
        axes: numbers of the directions; the smallest distance counts.
    Raises:
        ValueError: if the loss at the centre is not positive, nowhere tenfold up to 1e9, or tenfold at 1e-9 already.
    """
    first = next(iter(evaluator.splits))
    probe = replace(evaluator, splits={first: evaluator.splits[first]})

    def loss(axis: int, a: float) -> float:
        return float(probe.at([a if i == axis else 0.0 for i in range(evaluator.parametrisation.axes)])[0, 0])

    centre = loss(axes[0], 0.0)
    require(centre > 0, f"an automatic range needs a positive loss at the centre, got {centre}; give (first, last, n)")

    def grown(a: float) -> bool:
        return not all(loss(axis, side * a) < GROWTH * centre for axis in axes for side in (1, -1))

    far = 1.0
    while not grown(far) and far < FARTHEST:
        far *= 2
    while far <= 1.0 and far > 1 / FARTHEST and grown(far / 2):
        far /= 2
    told = f"an automatic range needs a loss that grows {GROWTH:g} times"
    if far >= FARTHEST:
        ends = [loss(axis, side * a) for axis in axes for side in (1, -1) for a in (1.0, far)]
        level = all(abs(end - centre) <= LEVEL * centre for end in ends)
        require(not level, f"{told}, but it is {centre:.6g} everywhere: {STILL}")
    require(far < FARTHEST, f"{told}, got none up to {far:g}; give (first, last, n)")
    require(
        far > 1 / FARTHEST,
        f"{told} at some distance, got one that has grown, or is NaN or infinite, at {far:.1g} already; give "
        "(first, last, n), or look at the direction and at the loss",
    )
    near = far / 2
    for _ in range(HALVINGS):
        middle = sqrt(near * far)
        near, far = (near, middle) if grown(middle) else (middle, far)
    return sqrt(near * far)
