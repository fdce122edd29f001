"""Sums of a function over the spectrum: tr f(A) = Σ f(λᵢ), by stochastic Lanczos quadrature.

The eigenvalues of largest magnitude are summed one by one as far as they converge cheaply; the rest is the mean over
probes of Σⱼ τⱼ² f(θⱼ), times its size. Where P products cost no more than the quadrature, the dense spectrum is exact.
A standard error has two parts: that of the probes, from the spectrum itself (`probe_error`), and what the quadrature
misses where f is not smooth, for which the change from half as many steps stands.
Source: Ubaru, Chen and Saad 2017, "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature"; eigenvalue counts:
Di Napoli, Polizzi and Saad 2016, arXiv:1308.4275.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from landscape.checks import integer_in, positive, require
from landscape.linalg.operator import CurvatureOperator
from landscape.linalg.probe_checkpoint import ProbeCheckpoint
from landscape.linalg.probe_error import probe_error
from landscape.linalg.quadrature import Quadrature, quadrature
from landscape.linalg.scaled import Scaled, times_power
from landscape.side_effects import random_source
from landscape.storage.results import Estimate


def log_determinant(
    operator: CurvatureOperator,
    *,
    shift: float,
    probes: int = 10,
    steps: int = 40,
    outliers: int = 10,
    generator: torch.Generator | None = None,
) -> Estimate:
    """log det(A + shift I) with a calibrated standard error, as the Laplace approximation's evidence asks for it.

    Args:
        operator: symmetric, (P, P).
        shift: added to every eigenvalue, at least 0, such as a prior precision over the number of samples.
        probes, steps: of the quadrature, probes at least 2; where P <= probes · steps the answer is exact.
        outliers: eigenvalues of largest magnitude to take out first, within a quarter of the quadrature's products.
        generator: default seed 0.
    Raises:
        ValueError: if an argument is out of range, A + shift I turns out not to be positive definite, or the operator
            gives NaN or infinity.
    """
    require(shift >= 0, f"shift must be at least 0, got {shift!r}")
    scaled = Scaled(operator)
    runs = _runs(scaled, probes, steps, outliers, generator)
    nodes = [runs.outliers, *(nodes for nodes, _ in runs.rules(steps))]
    least = min(float(times_power(part, scaled.exponent).min()) for part in nodes if len(part))
    require(
        least + shift > 0,
        f"A + shift I must be positive definite, got an eigenvalue of {least:.3g}; use a shift above {-least:.3g}",
    )
    return _sum(runs, operator, steps, lambda values: (times_power(values, scaled.exponent) + shift).log())


def absolute_trace(
    operator: CurvatureOperator,
    *,
    power: float = 1.0,
    probes: int = 10,
    steps: int = 40,
    outliers: int = 10,
    generator: torch.Generator | None = None,
) -> Estimate:
    """tr |A|^power = Σ |λᵢ|^power with a calibrated standard error.

    Args:
        operator: symmetric, (P, P).
        power: positive; 1 is the nuclear norm.
        probes, steps, outliers, generator: as in `log_determinant`.
    Raises:
        ValueError: if an argument is out of range, or the operator gives NaN or infinity.
    """
    positive("power", power)
    scaled = Scaled(operator)
    runs = _runs(scaled, probes, steps, outliers, generator)
    return scaled.estimate(_sum(runs, operator, steps, lambda values: values.abs() ** power), power)


def eigenvalue_count(
    operator: CurvatureOperator,
    *,
    above: float,
    probes: int = 10,
    steps: int = 40,
    outliers: int = 10,
    generator: torch.Generator | None = None,
) -> Estimate:
    """Number of eigenvalues above a threshold with a calibrated standard error, 0 where all of them are outliers.

    Args:
        operator: symmetric, (P, P).
        above: the threshold, in units of eigenvalues.
        probes, steps, outliers, generator: as in `log_determinant`.
    Raises:
        ValueError: if an argument is out of range, or the operator gives NaN or infinity.
    """
    scaled = Scaled(operator)
    runs = _runs(scaled, probes, steps, outliers, generator)

    def beyond(values: Tensor) -> Tensor:
        return (times_power(values, scaled.exponent) > above).double()

    return _sum(runs, operator, steps, beyond, window=steps // 2)


def _runs(operator: Scaled, probes: int, steps: int, outliers: int, generator: torch.Generator | None) -> Quadrature:
    """The quadrature, or the whole spectrum as outliers and no probe."""
    size, source = operator.shape[0], random_source(generator)
    integer_in("probes", probes, 2)
    integer_in("steps", steps, 2)
    integer_in("outliers", outliers, 0)
    if size <= probes * steps:
        values = torch.linalg.eigvalsh(operator.dense().double()).cpu()
        none = torch.empty(0, 0, dtype=torch.float64, device="cpu")
        return Quadrature(none, none, none[:, :0].long().sum(1), values, size)
    journal = ProbeCheckpoint(None, operator, source, {})
    return quadrature(operator, probes, steps, min(outliers, size - 1), max(1, probes * steps // 4), journal)


def _sum(
    runs: Quadrature, operator: CurvatureOperator, steps: int, function: Callable[[Tensor], Tensor], window: int = 1
) -> Estimate:
    """Outliers one by one, and the rest: the mean over probes, and over the last `window` numbers of steps.

    A step function jumps whenever a node passes the threshold as the steps grow; the mean over many numbers of steps
    lets the nodes of a continuous bulk pass it evenly, and leaves nodes that have converged where they are.
    """
    exact, rest = function(runs.outliers).sum(), operator.shape[0] - len(runs.outliers)
    if len(runs.lengths) == 0:
        return Estimate(value=exact, stderr=torch.zeros_like(exact), matvecs=runs.matvecs, verified=operator.verified)

    def samples(n: int, power: int = 1) -> Tensor:
        return rest * torch.stack([(weights * function(nodes) ** power).sum() for nodes, weights in runs.rules(n)])

    counted = range(steps - window + 1, steps + 1)
    last, squares = (torch.stack([samples(n, power) for n in counted]).mean(0) for power in (1, 2))
    missed = last.mean() - samples(steps // 2).mean() if window == 1 else torch.zeros_like(exact)
    stderr = (probe_error(last, squares, rest).square() + missed.square()).sqrt()
    return Estimate(value=exact + last.mean(), stderr=stderr, matvecs=runs.matvecs, verified=operator.verified)
