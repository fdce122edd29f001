import pytest
import torch

from landscape.linalg import spectral_density, top_eigenpairs
from landscape.linalg.operator import MatrixOperator
from landscape.linalg.probe_error import spectral_sum

FUNCTIONS = {"square": torch.square, "root": lambda nodes: nodes.abs().sqrt(), "count": lambda nodes: (nodes > 1) * 1.0}


def matrix(size=40):
    generator = torch.Generator().manual_seed(3)
    q, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    values = torch.linspace(-0.5, 2.0, size, dtype=torch.float64) ** 3
    a = q @ torch.diag(values) @ q.T
    return (a + a.T) / 2, values


@pytest.mark.parametrize("known", [0, 5])
def test_the_error_of_three_probes_is_that_of_the_formula_and_of_many_runs(known):
    a, values = matrix()
    operator, runs = MatrixOperator(a), 150
    pairs = top_eigenpairs(operator, known, tol=1e-10) if known else 0
    densities = [
        spectral_density(
            operator, probes=3, steps=40, outliers=pairs, check=0, generator=torch.Generator().manual_seed(seed)
        )
        for seed in range(runs)
    ]
    rest = values[values.abs().argsort()][: len(values) - known]
    n = len(rest)
    for f in FUNCTIONS.values():
        exact = (2 * (n * f(rest).square().sum() - f(rest).sum() ** 2) / (n + 2) / 3).sqrt()
        found = [spectral_sum(own, f(own.nodes), 40) for own in densities]
        stated = torch.stack([own.stderr for own in found])
        errors = torch.stack([own.value for own in found]) - f(values).sum()
        assert abs(stated.mean() / exact - 1) < 0.1
        assert stated.std() / stated.mean() < 0.35  # that of a spread of three samples is .52
        assert abs(errors.square().mean().sqrt() / exact - 1) < 4 / (2 * runs) ** 0.5  # four standard errors


def test_what_is_exact_has_no_error():
    a, _ = matrix()
    operator = MatrixOperator(a)
    density = spectral_density(operator, probes=2, steps=10, check=0)
    assert spectral_sum(density, torch.ones_like(density.nodes), 40).stderr < 1e-7  # tr 1 = P, whatever the probes
    dense = type(density)(
        nodes=torch.linalg.eigvalsh(a)[None], weights=torch.full((1, 40), 1 / 40, dtype=torch.float64)
    )
    assert spectral_sum(dense, dense.nodes, 40).stderr == 0
