"""m-sharpness: the mean over disjoint subsets of m samples of each subset's own worst case.

The perturbation that SAM computes on a batch of m is tuned to that batch; the smaller m, the sharper the loss looks.
Source: Foret et al. 2021, arXiv:2010.01412, section 3.1; Andriushchenko and Flammarion 2022, arXiv:2206.06232.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from math import ceil

import torch

from landscape.checks import integer_in, require
from landscape.metrics.logits import with_normalized_logits
from landscape.metrics.metric import measured
from landscape.metrics.subsets import first_batches, subsets
from landscape.metrics.worst_case import climb_cost, worst_case_gap
from landscape.problem import Problem
from landscape.problem.cost import GRADIENT, Range
from landscape.problem.separable import require_separable
from landscape.storage.results import Estimate


def m_sharpness_cost(*, steps: int, restarts: int, points: int | None, units: float, **_: object) -> Range:
    """A gradient and an ascent of each subset that is looked at."""
    return (climb_cost(steps, restarts) + GRADIENT) * (min(points or units, units) / units)


@measured
def m_sharpness(
    problem: Problem,
    *,
    m: int = 1,
    rho: float = 0.05,
    geometry: str = "euclidean",
    p: float = 2,
    eta: float = 0.0,
    steps: int = 1,
    restarts: int = 0,
    normalize_logits: bool = False,
    points: int | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    """Mean worst-case gap of subsets of m samples, in the order of the data, weighted by their units.

    Andriushchenko et al. 2023, arXiv:2302.07011, section 2: m 128, 20 steps, points 1,024, adaptive, normalised logits;
    their steps are a number, ours a cap.

    Args:
        problem: the scalar function; its batches are cut anew, across their borders. The last subset may be smaller.
        m: samples in a subset, at least 1; steps + 1 gradient-times over the data, but in n / m small pieces, and two
            forward passes over the first batch.
        rho, geometry, p, eta, steps, restarts, normalize_logits: as in `worst_case_gap`.
        points: look at the first samples only, in whole subsets that hold at least so many; default all.
        generator: for random points, as in `worst_case_gap`.
    Returns:
        Estimate with stderr 0: all subsets are counted, none sampled. Details: subsets; steps and last_gain, the
        largest of a subset; converged, 1 where all have.
    Raises:
        ValueError: if an argument is out of range, or a batch's loss is not the mean over its samples, which is looked
            at on the first batch.
    """
    integer_in("m", m, 1)
    if points is not None:
        integer_in("points", points, 1)
    problem = problem.with_pairs([item[:2] for item in problem.batches_with_units()])  # read once
    if normalize_logits:
        problem = with_normalized_logits(problem)
    _check_regrouped(problem, m)
    total = units = 0.0
    climbs: list[Mapping[str, float]] = []
    for inputs, targets in islice(subsets(problem, m), points and ceil(points / m)):
        weight = float(problem.weight(inputs, targets))
        if weight > 0:
            gap = worst_case_gap(
                problem.with_pairs([(inputs, targets)]),
                rho=rho,
                geometry=geometry,
                p=p,
                eta=eta,
                steps=steps,
                restarts=restarts,
                generator=generator,
            )
            total, units = total + weight * float(gap.value), units + weight
            climbs.append(gap.details)
    require(units > 0, f"points must reach at least one sample of positive weight, got {points!r}")
    worst = {"steps": max, "last_gain": max, "converged": min}
    details = {key: of(climb[key] for climb in climbs) for key, of in worst.items() if key in climbs[0]}
    return Estimate.exact(total / units, 0, subsets=len(climbs), **details)


def _check_regrouped(problem: Problem, m: int) -> None:
    """Refuse a loss that is another one on subsets than on the first batches, of at least m samples."""
    whole = first_batches(problem, m)
    pieces = list(subsets(problem.with_pairs(whole), m))
    if [len(targets) for _, targets in pieces] != [len(targets) for _, targets in whole]:
        with problem.with_pairs(whole + pieces).batches() as batches:
            read = list(batches)
            first = len([batch for batch in read if batch.index < len(whole)])
            require_separable(read[:first], read[first:], f"m={m}")


@measured
def m_sharpness_curve(
    problem: Problem, m: Sequence[int], *, rho: float = 0.05, generator: torch.Generator | None = None
) -> Estimate:
    """m-sharpness for each of several m, value and stderr (len(m),); settings other than rho: call `m_sharpness`."""
    require(len(m) > 0, "m must hold at least one size, got none")
    found = [m_sharpness(problem, m=size, rho=rho, generator=generator) for size in m]
    return Estimate.exact(torch.stack([estimate.value for estimate in found]))
