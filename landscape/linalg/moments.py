"""The first two moments of a spectral density beside what they should be: tr(A) / P and |A|_F² / P."""

from dataclasses import replace

import torch
from torch import Tensor

from landscape.linalg.operator import CurvatureOperator
from landscape.linalg.probe_error import spectral_sum
from landscape.linalg.probes import sphere
from landscape.linalg.sketch import sketch
from landscape.linalg.xtrace import xtrace
from landscape.storage.results import SpectralDensity

LEAST = 4  # products that XTrace needs


def checked_moments(
    operator: CurvatureOperator, density: SpectralDensity, matvecs: int, source: torch.Generator
) -> SpectralDensity:
    """The density with `moments`; both expectations come from one sketch, or exactly from P products where these do."""
    if matvecs < min(LEAST, operator.shape[0]):
        return density
    values = {}
    expected, spent = _expected(operator, matvecs, source)
    for power, name in ((1, "mean"), (2, "second")):
        found = spectral_sum(density, density.nodes**power, operator.shape[0])
        values[name], values[f"{name}_stderr"] = (
            float(part) / operator.shape[0] for part in (found.value, found.stderr)
        )
        target, error = expected[power - 1]
        values[f"{name}_expected"], values[f"{name}_expected_stderr"] = float(target), float(error)
    return replace(density, moments=values, matvecs=density.matvecs + spent)


def _expected(
    operator: CurvatureOperator, matvecs: int, source: torch.Generator
) -> tuple[list[tuple[Tensor, Tensor]], int]:
    """Mean and second moment with standard errors, and the products spent."""
    size = operator.shape[0]
    if matvecs >= size:
        matrix, sure = operator.dense().double(), torch.zeros((), device="cpu")
        return [(matrix.diagonal().mean(), sure), (matrix.square().sum() / size, sure)], size
    found = sketch(operator, sphere(operator, matvecs // 2, source))
    estimates = [xtrace(found), xtrace(found, squared=True)]
    return [(each.value / size, each.stderr / size) for each in estimates], found.matvecs
