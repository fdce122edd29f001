import pytest
import torch
from cases import Counting, make, seeded, symmetric

from landscape.curvature import hessian
from landscape.linalg import density as density_module
from landscape.linalg import spectral_density
from landscape.linalg.probes import gaussian
from landscape.operator import MatrixOperator

values = torch.cat([torch.linspace(-1, 1, 95), torch.tensor([3.0, 5.0, 8.0, -4.0, 12.0])])
matrix = symmetric(values)


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_the_quadrature_is_exact_up_to_degree_two_steps_minus_one(steps):
    found = spectral_density(MatrixOperator(matrix), probes=3, steps=steps, generator=seeded(2))
    probes = gaussian(MatrixOperator(matrix), 3, seeded(2))
    for row, v in enumerate((probes / probes.norm(dim=0)).T):
        power = v
        for degree in range(2 * steps + 1):
            by_nodes = (found.weights[row] * found.nodes[row] ** degree).sum()
            size = v @ torch.linalg.matrix_power(matrix @ matrix, (degree + 1) // 2) @ v
            exact = abs(by_nodes - v @ power) <= 1e-11 * size
            assert bool(exact) == (degree < 2 * steps)
            power = matrix @ power


def test_the_mean_of_the_density_is_the_mean_eigenvalue_within_its_error():
    found = spectral_density(MatrixOperator(matrix), probes=200, steps=10)
    means = (found.weights * found.nodes).sum(1)
    assert abs(means.mean() - values.double().mean()) <= 4 * means.std() / 200**0.5


def test_weights_sum_to_one_and_no_ghosts_beyond_fifty_steps():
    found = spectral_density(MatrixOperator(matrix), probes=2, steps=90)
    torch.testing.assert_close(found.weights.sum(1), torch.ones(2).double(), rtol=1e-14, atol=0)
    assert found.weights.min() >= 0
    for outlier in (3, 5, 8, -4, 12):
        assert ((found.nodes - outlier).abs() < 0.5).sum(1).tolist() == [1, 1]


@pytest.mark.parametrize("spectrum", [torch.ones(50), torch.zeros(50), torch.tensor([1.0, 4.0]).repeat(25)])
def test_after_a_breakdown_weights_are_zero_and_nodes_finite(spectrum):
    distinct = spectrum.unique().double()
    found = spectral_density(MatrixOperator(symmetric(spectrum)), probes=3, steps=10)
    assert found.nodes.shape == found.weights.shape == (3, 10)
    assert found.weights[:, len(distinct) :].abs().max() == 0
    assert found.nodes.isfinite().all()
    torch.testing.assert_close(found.nodes[:, : len(distinct)], distinct.expand(3, -1), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(found.weights.sum(1), torch.ones(3).double(), rtol=1e-14, atol=0)


def test_the_smoothed_density_integrates_to_one_and_follows_the_exact_one():
    found = spectral_density(MatrixOperator(matrix), probes=40, steps=60)
    grid = torch.linspace(-10, 20, 6001)
    mean, stderr = found.evaluate(grid, 0.4)
    assert abs(torch.trapezoid(mean, grid.double()) - 1) < 1e-6
    exact = torch.distributions.Normal(values.double()[:, None], 0.4).log_prob(grid.double()).exp().mean(0)
    assert ((mean - exact).abs() <= 4 * stderr + 1e-4 * exact.max()).double().mean() > 0.99


def test_more_steps_than_entries_give_the_spectrum():
    small = symmetric(torch.arange(1.0, 6.0))
    A = Counting(small)
    found = spectral_density(A, probes=2, steps=9)
    assert A.count == found.matvecs == 10
    torch.testing.assert_close(found.nodes[:, :5], torch.arange(1.0, 6.0).double().expand(2, 5), rtol=1e-10, atol=0)


@pytest.mark.parametrize("steps", [5, 20])
def test_products_are_counted(steps):
    A = Counting(matrix)
    assert spectral_density(A, probes=3, steps=steps).matvecs == A.count == 3 * steps


def test_probes_run_in_groups_that_fit_in_memory_with_the_same_result(monkeypatch):
    together = spectral_density(MatrixOperator(matrix), probes=5, steps=6)
    monkeypatch.setattr(density_module, "BASIS_BYTES", 2 * 6 * 100 * 8)
    groups = spectral_density(MatrixOperator(matrix), probes=5, steps=6)
    torch.testing.assert_close(groups.nodes, together.nodes, rtol=1e-10, atol=1e-12)


def test_the_trace_of_a_network_from_its_density():
    H = hessian(make("mlp").problem())
    found = spectral_density(H, probes=100, steps=8)
    samples = (found.weights * found.nodes).sum(1) * H.shape[0]
    assert abs(samples.mean() - H.dense().trace()) <= 4 * samples.std() / 10


@pytest.mark.parametrize(("settings", "message"), [({"probes": 0}, "probes must be"), ({"steps": 0}, "steps must be")])
def test_arguments_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=f"{message} an integer at least 1, got 0"):
        spectral_density(MatrixOperator(matrix), **settings)
