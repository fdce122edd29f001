from dataclasses import replace

import pytest
import torch
from cases import Counting, KilledError, make, seeded, symmetric

from landscape.curvature import hessian
from landscape.linalg import quadrature as quadrature_module
from landscape.linalg import spectral_density, top_eigenpairs
from landscape.linalg.operator import MatrixOperator
from landscape.linalg.probes import gaussian

values = torch.cat([torch.linspace(-1, 1, 95), torch.tensor([3.0, 5.0, 8.0, -4.0, 12.0])])
matrix = symmetric(values)
PAIRS = top_eigenpairs(MatrixOperator(matrix), 5, tol=1e-8)


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
    found = spectral_density(A, probes=2, steps=9, check=0)
    assert A.count == found.matvecs == 10
    torch.testing.assert_close(found.nodes[:, :5], torch.arange(1.0, 6.0).double().expand(2, 5), rtol=1e-10, atol=0)


@pytest.mark.parametrize("steps", [5, 20])
def test_products_are_counted(steps):
    A = Counting(matrix)
    assert spectral_density(A, probes=3, steps=steps, check=24).matvecs == A.count == 3 * steps + 24


def test_probes_run_in_groups_that_fit_in_memory_with_the_same_result(monkeypatch):
    together = spectral_density(MatrixOperator(matrix), probes=5, steps=6)
    monkeypatch.setattr(quadrature_module, "BASIS_BYTES", 2 * 6 * 100 * 8)
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


outlying = torch.tensor([12.0, 8.0, 5.0, -4.0, 3.0]).double()


def test_outliers_taken_out_have_exact_weights_and_leave_the_bulk_sharp():
    A = Counting(matrix)
    found = spectral_density(A, probes=4, steps=20, outliers=5, check=0)
    assert found.matvecs == A.count
    torch.testing.assert_close(found.outliers, outlying, rtol=1e-6, atol=0)
    assert found.nodes.shape == found.weights.shape == (4, 25)
    assert torch.equal(found.nodes[:, 20:], found.outliers.expand(4, 5))
    assert (found.weights[:, 20:] == 1 / 100).all()
    torch.testing.assert_close(found.weights.sum(1), torch.ones(4).double(), rtol=1e-14, atol=0)
    assert found.nodes[:, :20].abs().max() < 1 + 1e-6
    plain = spectral_density(MatrixOperator(matrix), probes=4, steps=20, check=0)
    second = [(each.weights * each.nodes**2).sum(1).std() for each in (found, plain)]
    assert second[0] < second[1] / 20


def test_outliers_that_are_counted_by_itself_are_those_that_stand_clear():
    A = Counting(matrix)
    found = spectral_density(A, probes=4, steps=20, outliers="auto", check=0)
    told = spectral_density(MatrixOperator(matrix), probes=4, steps=20, outliers=5, check=0)
    assert found.matvecs == A.count == 64 + 4 * 20
    torch.testing.assert_close(found.outliers, told.outliers, rtol=1e-7, atol=0)
    assert (found.weights[:, 20:] == 1 / 100).all()
    torch.testing.assert_close(found.weights.sum(1), torch.ones(4).double(), rtol=1e-14, atol=0)
    assert found.nodes[:, :20].abs().max() < 1 + 1e-9


def test_products_spent_on_counting_are_bounded():
    A = Counting(matrix)
    found = spectral_density(A, probes=1, steps=2, outliers="auto", max_matvecs=9, check=0)
    assert A.count == found.matvecs == 9 + 2
    assert len(found.outliers) <= 4
    with pytest.raises(ValueError, match="outliers must be one of 'auto', got 'some'"):
        spectral_density(A, outliers="some")


def test_more_steps_than_the_rest_has_entries():
    found = spectral_density(MatrixOperator(matrix), probes=2, steps=110, outliers=5)
    assert found.nodes.shape == (2, 115)
    torch.testing.assert_close(found.nodes[0, :95].sort().values, values[:95].double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("outliers", [0, 5])
def test_moments_are_checked_by_other_products(outliers):
    found = spectral_density(MatrixOperator(matrix), probes=6, steps=12, outliers=outliers, check=30).moments
    for name, exact in (("mean", values.double().mean()), ("second", values.double().square().mean())):
        for kind in ("", "_expected"):
            assert abs(found[name + kind] - exact) <= 4 * found[f"{name}{kind}_stderr"]
            assert found[f"{name}{kind}_stderr"] < (3 if name == "second" else 1)
    exact = spectral_density(MatrixOperator(matrix), probes=2, steps=3, check=100).moments
    assert exact["mean_expected"] == pytest.approx(float(values.double().mean()), rel=1e-12)
    assert exact["second_expected"] == pytest.approx(float(values.double().square().mean()), rel=1e-12)
    assert exact["mean_expected_stderr"] == exact["second_expected_stderr"] == 0


@pytest.mark.parametrize("outliers", [2, "auto", PAIRS])
def test_a_killed_run_goes_on_and_ends_with_the_same_numbers(outliers, tmp_path):
    path = tmp_path / "density.npz"
    settings = {"probes": 5, "steps": 10, "outliers": outliers, "resume": path}
    generators = seeded(3), seeded(3), seeded(3)
    whole = spectral_density(MatrixOperator(matrix), generator=generators[0], **settings)
    mortal = Counting(matrix, life=whole.matvecs - 24 - 5)  # dies in the last group of probes
    with pytest.raises(KilledError):
        spectral_density(mortal, generator=generators[1], **settings)
    rest = Counting(matrix)
    found = spectral_density(rest, generator=generators[2], **settings)
    for name in ("nodes", "weights", "outliers"):
        assert torch.equal(getattr(found, name), getattr(whole, name))
    assert (found.moments, found.matvecs) == (whole.moments, whole.matvecs)
    assert rest.count == 10 + 24
    assert torch.equal(generators[0].get_state(), generators[2].get_state())
    assert not path.exists()


def test_known_pairs_are_taken_out_without_further_products():
    A, pairs, probes = MatrixOperator(matrix), PAIRS, {"probes": 4, "steps": 20, "check": 0}
    found = spectral_density(A, outliers=pairs, **probes)
    torch.testing.assert_close(found.outliers, torch.tensor([12.0, 8, 5, -4, 3]).double())
    torch.testing.assert_close(found.weights[:, -5:], torch.full((4, 5), 1 / 100).double())
    assert found.matvecs == 80
    unsure = replace(pairs, converged=torch.tensor([True, True, False, True, False]))
    torch.testing.assert_close(spectral_density(A, outliers=unsure, **probes).outliers, found.outliers[[0, 1, 3]])
    with pytest.raises(ValueError, match="outliers must have vectors of length 100, got 99"):
        spectral_density(A, outliers=replace(pairs, vectors=pairs.vectors[1:]), **probes)
