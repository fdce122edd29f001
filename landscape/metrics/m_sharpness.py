"""m-sharpness: the mean over disjoint subsets of m samples of each subset's own first-order worst case.

The perturbation that SAM computes on a batch of m is tuned to that batch; the smaller m, the sharper the loss looks.
Source: Foret et al. 2021, arXiv:2010.01412, section 3.1; Andriushchenko and Flammarion 2022, arXiv:2206.06232.
"""

from collections.abc import Iterator
from typing import Any

import torch

from landscape.batches import join, rows
from landscape.checks import integer_in
from landscape.cost import FORWARD, GRADIENT
from landscape.metrics.measured import measured
from landscape.metrics.worst_case import exact, worst_case_gap
from landscape.problem import Problem
from landscape.results import Estimate


@measured(about=GRADIENT + FORWARD)
def m_sharpness(
    problem: Problem,
    *,
    m: int = 1,
    rho: float = 0.05,
    geometry: str = "euclidean",
    p: float = 2,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Estimate:
    """Mean one-step worst-case gap of subsets of m samples, in the order of the data, weighted by their units.

    Args:
        problem: the scalar function; its batches are cut anew, across their borders. The last subset may be smaller.
        m: samples in a subset, at least 1; two gradient-times over the data, but in n / m small pieces.
        rho, geometry, p, eta: the ball, as in `worst_case_gap`.
        generator: not used; for the common signature.
    Returns:
        Estimate with stderr 0: all subsets are counted, none sampled. Details: subsets.
    Raises:
        ValueError: if an argument is out of range.
    """
    integer_in("m", m, 1)
    total = units = 0.0
    count = 0
    for inputs, targets in _subsets(problem, m):
        weight = float(problem.weight(inputs, targets))
        if weight > 0:
            part = problem.with_data([(inputs, targets)])
            gap = worst_case_gap(part, rho=rho, geometry=geometry, p=p, eta=eta, steps=1, generator=generator)
            total, units, count = total + weight * float(gap.value), units + weight, count + 1
    return exact(total / units, subsets=count)


def _subsets(problem: Problem, m: int) -> Iterator[tuple[Any, Any]]:
    """The data in consecutive subsets of m samples."""
    left: list[tuple[Any, Any]] = []  # what the batches so far left over, fewer than m samples
    for inputs, targets, _ in problem.pairs():
        left.append((inputs, targets))
        held = sum(len(pair[1]) for pair in left)
        if held >= m:
            joined = join(left) if len(left) > 1 else left[0]
            whole = held - held % m
            for start in range(0, whole, m):
                yield rows(joined[0], start, start + m), rows(joined[1], start, start + m)
            left = [(rows(joined[0], whole, held), rows(joined[1], whole, held))] if whole < held else []
    if left:
        yield join(left)
