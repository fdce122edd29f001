"""Spectral density by stochastic Lanczos quadrature.

For a random unit vector v, vᵀ f(A) v ≈ Σⱼ τⱼ² f(θⱼ) with Ritz values θⱼ of m Lanczos steps and τⱼ the first entries of
T's eigenvectors; its mean over v is tr f(A) / P. Each probe is kept as a row, so that its spread can be shown. Outliers
can be found one by one first: the probes then see only the rest, and no weight of an outlier is left to chance.
Source: Lin, Saad and Yang 2016, arXiv:1308.5467; Ghorbani et al. 2019, arXiv:1901.10159.
"""

from dataclasses import replace
from pathlib import Path

import torch

from landscape.checks import integer_in, one_of, require
from landscape.linalg.moments import checked_moments
from landscape.linalg.operator import CurvatureOperator
from landscape.linalg.probe_checkpoint import ProbeCheckpoint
from landscape.linalg.products_shown import products_shown
from landscape.linalg.quadrature import Quadrature, quadrature
from landscape.linalg.scaled import Scaled, times_power
from landscape.side_effects import random_source
from landscape.storage.array_checkpoint import fingerprint
from landscape.storage.results import EigenPairs, SpectralDensity

SQUARES = 900  # binary orders of magnitude on either side of 1 for a square in float64, which ends at 1022


def spectral_density(
    operator: CurvatureOperator,
    *,
    probes: int = 8,
    steps: int = 64,
    outliers: int | str | EigenPairs = 0,
    max_matvecs: int | None = None,
    check: int = 24,
    generator: torch.Generator | None = None,
    resume: str | Path | None = None,
    progress: bool | None = None,
) -> SpectralDensity:
    """Density of the eigenvalues of a symmetric operator.

    Args:
        operator: symmetric, (P, P).
        probes: random starting vectors; they share the passes over the data as far as memory goes.
        steps: Lanczos steps a probe; products: probes · min(steps, P).
        outliers: eigenvalues of largest magnitude that `top_eigenpairs` takes out first; those that converge have the
            exact weight 1 / P, and the bulk is resolved by all the steps. "auto" takes those that stand clear: one
            more Lanczos run, of min(max_matvecs, P) products, tells which. Taken are converged Ritz values beyond a gap
            wider than the standard deviation of the rest, if they weigh as little as single eigenvalues, max_matvecs /
            2 at most. Copies of a multiple eigenvalue may stay in. The rule in full: `linalg.outliers`. Or pairs that
            are known already, of which the converged are taken.
        max_matvecs: products that may be spent on the outliers; default max(1000, 10 outliers), "auto": max(64, steps).
        check: products for an independent estimate of the first two moments; 0 leaves them out.
        generator: for the probes; default seed 0.
        resume: a file ending in .npz that keeps the outliers and every two probes: a killed run, called again with
            the same arguments, goes on from there and ends with the same numbers, those without resume= up to
            rounding. Removed at the end.
        progress: show a bar; default on a terminal and in a notebook, else a line every 30 s.
    Returns:
        SpectralDensity: nodes and weights (probes, steps + k), each row's weights summing to 1; k outliers come last,
        and as `outliers`.
        Where a Krylov space closed before `steps`, the remaining weights are 0 and the nodes repeat the last value.
        moments: mean and second of the density beside mean_expected = tr(A) / P and second_expected = |A|_F² / P from
            `check` other products, each with its _stderr.
    Raises:
        ValueError: if an argument is out of range, the operator gives NaN or infinity, or resume= keeps other work.
    """
    size = operator.shape[0]
    integer_in("probes", probes, 1)
    integer_in("steps", steps, 1)
    integer_in("check", check, 0)
    default = _budget(outliers, steps, size, operator.space.own)
    limit = default if max_matvecs is None else max_matvecs
    integer_in("max_matvecs", limit, 1)
    source = random_source(generator)
    known = fingerprint(outliers.vectors) if isinstance(outliers, EigenPairs) else outliers
    settings = {"what": "density", "probes": probes, "steps": steps, "outliers": known, "limit": limit}
    scaled = Scaled(operator)
    checkpoint = ProbeCheckpoint(resume, scaled, source, settings)
    known_total = probes * min(steps, size) + check if outliers == 0 and resume is None else None
    with products_shown(scaled, known_total, progress):
        runs = quadrature(scaled, probes, steps, outliers, limit, checkpoint)
        found = _restored(scaled, checked_moments(scaled, _density(runs, size, steps), check, source))
    checkpoint.close()
    return found


def _budget(outliers: int | str | EigenPairs, steps: int, size: int, own: int) -> int:
    """Products that may be spent on the outliers where nothing else is said."""
    if isinstance(outliers, str):
        one_of("outliers", outliers, ("auto",))
        return max(64, steps)
    if isinstance(outliers, EigenPairs):
        found = len(outliers.vectors)
        require(found == own, f"outliers must have vectors of length {own}, got {found}")
        return 1
    integer_in("outliers", outliers, 0, size - 1)
    return max(1000, 10 * outliers)


def _density(runs: Quadrature, size: int, steps: int) -> SpectralDensity:
    """Each probe padded to `steps`; outliers last, with the weight that they have exactly."""
    probes, count = len(runs.lengths), len(runs.outliers)
    nodes, weights = torch.zeros(2, probes, steps + count, dtype=torch.float64, device="cpu")
    for row, (values, shares) in enumerate(runs.rules(steps)):
        n = len(values)
        nodes[row, :steps] = torch.cat([values, values[-1:].expand(steps - n)])
        weights[row, :n] = shares * (1 - count / size)
    nodes[:, steps:], weights[:, steps:] = runs.outliers, 1 / size
    return SpectralDensity(nodes=nodes, weights=weights, matvecs=runs.matvecs, outliers=runs.outliers)


def _restored(scaled: Scaled, found: SpectralDensity) -> SpectralDensity:
    """The density at the operator's own scale, without second moments where float64 does not hold them."""
    moments = {}
    for name, value in found.moments.items():
        second = name.startswith("second")
        if not second or abs(2 * scaled.exponent) < SQUARES:
            moments[name] = float(
                times_power(torch.tensor(value, dtype=torch.float64, device="cpu"), scaled.exponent * (1 + second))
            )
    nodes, outliers = scaled.restored(found.nodes), scaled.restored(found.outliers)
    return replace(found, nodes=nodes, outliers=outliers, moments=moments)
