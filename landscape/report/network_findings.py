"""What the page of one network rests on: its spectrum, measures of sharpness, slices and their check."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from landscape.curvature import hessian
from landscape.linalg import spectral_density, top_eigenpairs, trace
from landscape.metrics.analyze import analyze
from landscape.problem import Problem
from landscape.slices import check_slice, random_directions, slice_1d, slice_2d
from landscape.slices.check import SliceCheck
from landscape.storage.results import EigenPairs, Estimate, Measurements, Slice1D, Slice2D, SpectralDensity

MEANING = {
    "gradient_norm": "length of the gradient; 0 at a stationary point",
    "surrogate_gap": "how much the loss rises a distance {rho:g} up the gradient",
    "worst_case_gap": "the most that the loss was found to rise within a distance {rho:g}",
    "worst_case_gap_adaptive": "the same within {rho:g} in units of each weight's size: no rescaling changes it",
    "average_gap": "how much the loss rises on average when every weight gets noise of standard deviation {rho:g}",
    "average_gap_adaptive": "the same with noise of {rho:g} of each weight",
    "weight_norm": "length of the weight vector, which distances are to be held against",
}
HOW: dict[str, Any] = {"normalize": "filter", "ignore": "bias_norm"}  # of the directions


@dataclass(frozen=True)
class Effort:
    """How much is computed for the page of one network."""

    metrics: Sequence[str] = tuple(MEANING)
    eigenvalues: int = 10
    matvecs: int = 60  # for the trace
    probes: int = 8
    steps: int = 64
    line_points: int = 51
    plane_points: int = 25
    subset: int | None = None  # samples of each split in the slices
    seed: int = 0


QUICK = Effort(eigenvalues=5, matvecs=24, probes=4, steps=24, line_points=21, plane_points=11)


@dataclass(frozen=True)
class NetworkFindings:
    """All that the page shows."""

    name: str
    problem: Problem
    effort: Effort
    pairs: EigenPairs
    total: Estimate  # the trace
    density: SpectralDensity
    measures: Measurements
    line: Slice1D
    plane: Slice2D
    check: SliceCheck


def measure_network(
    problem: Problem,
    data: Mapping[str, Iterable[Any]],
    name: str,
    effort: Effort | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> NetworkFindings:
    """Everything that the page of one network shows.

    Args:
        problem: the network's training loss.
        data: split to data, for the slices.
        name: what the reader knows the network by.
        effort: how much is computed.
        say: is told what is being done.
    Raises:
        ValueError: if the loss is not finite, or what is asked for does not fit the problem.
    """
    effort = effort or Effort()

    def drawn() -> torch.Generator:
        return torch.Generator().manual_seed(effort.seed)

    operator = hessian(problem)
    say("eigenvalues, trace and density ...")
    pairs = top_eigenpairs(operator, min(effort.eigenvalues, problem.size), generator=drawn())
    total = trace(operator, matvecs=effort.matvecs, generator=drawn())
    density = spectral_density(operator, probes=effort.probes, steps=effort.steps, generator=drawn())
    say("sharpness ...")
    measures = analyze(problem, effort.metrics, generator=drawn())
    say("slices ...")
    d1, d2 = random_directions(problem, generator=drawn(), **HOW)
    how: dict[str, Any] = {"subset": effort.subset, "details": {**HOW, "seed": effort.seed}}
    line_span, span = ((-1.0, 1.0, points) for points in (effort.line_points, effort.plane_points))
    line = slice_1d(problem, d1, line_span, data, **how)
    plane = slice_2d(problem, d1, d2, span, span, data, **how)
    assert isinstance(line, Slice1D)  # of one direction
    say("checks ...")
    check = check_slice(problem, plane, d1, d2, data)
    return NetworkFindings(name, problem, effort, pairs, total, density, measures, line, plane, check)
