import pytest
import torch
from cases import make, seeded, symmetric
from quadratics import quadratic

from landscape import metrics
from landscape.curvature import ggn, hessian
from landscape.linalg import spectral_density, top_eigenpairs, trace
from landscape.metrics import spectral


def test_the_top_of_the_spectrum_equals_the_dense_one() -> None:
    problem = make("mlp").problem()
    values = torch.linalg.eigvalsh(hessian(problem).dense()).flip(0)
    top, ratio = metrics.lambda_max(problem), metrics.lambda_max_over_lambda_5(problem)
    assert abs(top.value - values[0]) <= top.stderr
    assert abs(ratio.value - values[0] / values[4].abs()) <= ratio.stderr
    assert top.stderr < 1e-3 * top.value


def test_lambda_max_is_the_largest_not_the_largest_in_magnitude() -> None:
    problem = quadratic(symmetric(torch.tensor([-10.0, -1, 0, 1, 2, 3])))
    assert metrics.lambda_max(problem).value.item() == pytest.approx(3, rel=1e-6)


def test_the_ratio_stays_finite_where_the_fifth_eigenvalue_is_zero() -> None:
    problem = quadratic(torch.diag(torch.tensor([2.0, 0, 0, 0, 0, 0], dtype=torch.float64)))
    assert 1e12 < metrics.lambda_max_over_lambda_5(problem).value < 1e17


def test_the_ratio_needs_five_parameters() -> None:
    with pytest.raises(ValueError, match="number of parameters must be an integer at least 5, got 3"):
        metrics.lambda_max_over_lambda_5(quadratic(torch.eye(3).double()))


def test_trace_and_gradient_norm() -> None:
    problem = make("mlp").problem()
    exact = hessian(problem).dense().trace()
    found = metrics.trace(problem, matvecs=40)
    assert abs(found.value - exact) < 4 * found.stderr
    assert metrics.trace(problem, matvecs=problem.size).value.item() == pytest.approx(exact.item(), rel=1e-9)
    assert metrics.gradient_norm(problem).value.item() == pytest.approx(problem.gradient().norm().item(), rel=1e-12)


def test_large_networks_keep_fewer_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make("mlp").problem()
    H = hessian(problem)
    monkeypatch.setattr(spectral, "LARGE", problem.size)
    found = metrics.trace(problem, matvecs=40, generator=seeded(1))
    same = trace(H, method="hutchinson", matvecs=40, generator=seeded(1), progress=False)
    assert found.value == same.value
    assert abs(found.value - H.dense().trace()) < 4 * found.stderr
    pairs = spectral.leading_pairs(problem)
    bounded = top_eigenpairs(H, 5, which="LA", tol=spectral.TOL, basis_size=spectral.SMALL_BASIS, progress=False)
    assert torch.equal(pairs.values, bounded.values)


def test_adam_sharpness_is_exact_with_enough_products() -> None:
    problem = make("mlp").problem()
    diagonal = hessian(problem).dense().diagonal()
    found = metrics.adam_sharpness(problem, matvecs=4 * problem.size)
    assert found.value.item() == pytest.approx(diagonal.clamp(min=0).sqrt().sum().item(), rel=1e-9)
    assert found.details["negative"] == pytest.approx((diagonal < 0).double().mean().item())
    assert found.stderr == 0


def test_adam_sharpness_of_few_products_is_within_its_error_and_bias() -> None:
    problem = make("mlp").problem()
    exact = ggn(problem).dense().diagonal().sqrt().sum()
    values = [
        metrics.adam_sharpness(problem, operator="ggn", matvecs=64, generator=torch.Generator().manual_seed(seed))
        for seed in range(20)
    ]
    errors = torch.stack([(found.value - exact) / (found.stderr + abs(found.details["bias"])) for found in values])
    assert errors.abs().max() < 4


def test_adam_sharpness_settings() -> None:
    with pytest.raises(ValueError, match=r"operator must be one of .*, got 'fisher'"):
        metrics.adam_sharpness(make("mlp").problem(), operator="fisher")
    with pytest.raises(ValueError, match="matvecs must be an integer at least 16, got 8"):
        metrics.adam_sharpness(make("mlp").problem(), matvecs=8)


def test_the_gauss_newton_versions_equal_the_dense_ones() -> None:
    problem = make("mlp").problem()
    G = ggn(problem).dense()
    top = metrics.lambda_max_ggn(problem)
    assert abs(top.value - torch.linalg.eigvalsh(G)[-1]) <= top.stderr + 1e-12
    found = metrics.trace_ggn(problem, matvecs=problem.size)
    assert found.value.item() == pytest.approx(G.trace().item(), rel=1e-9)


def test_frobenius_norm_and_count_of_a_known_spectrum() -> None:
    spectrum = torch.tensor([-3.0, 0.001, 0.01, 0.5, 1, 2], dtype=torch.float64)
    problem = quadratic(symmetric(spectrum))
    norm, count = metrics.frobenius_norm(problem), metrics.eigenvalues_above(problem)
    assert norm.value.item() == pytest.approx(spectrum.norm().item(), rel=1e-9)
    assert count.value.item() == pytest.approx(3)  # above a hundredth of the largest
    assert count.details["above"] == pytest.approx(0.02)
    assert metrics.eigenvalues_above(problem, above=0.0).value.item() == pytest.approx(5)
    assert norm.stderr == count.stderr == 0


def test_by_quadrature_both_are_within_their_errors() -> None:
    spectrum = torch.cat([torch.zeros(200), torch.linspace(1, 2, 40), torch.tensor([10.0, 20.0])]).double()
    problem = quadratic(symmetric(spectrum))
    density = metrics.whole_density(problem, probes=12, steps=12)
    norm, count = (
        metrics.frobenius_norm(problem, density=density),
        metrics.eigenvalues_above(problem, above=0.5, density=density),
    )
    assert abs(norm.value - spectrum.norm()) < 4 * norm.stderr < spectrum.norm()
    assert abs(count.value - 42) < 4 * count.stderr < 42


def test_with_the_leading_pairs_nothing_of_the_outliers_is_left_to_chance() -> None:
    spectrum = torch.cat([torch.full((95,), 0.5), torch.tensor([3.0, 4, 5, 6, 7])]).double()
    problem = quadratic(symmetric(spectrum))
    density = metrics.whole_density(problem, pairs=metrics.leading_pairs(problem))
    for metric, exact in ((metrics.frobenius_norm, spectrum.norm()), (metrics.eigenvalues_above, 100)):
        found = metric(problem, density=density)
        assert found.value.item() == pytest.approx(float(exact), rel=1e-6)
        assert found.stderr < 1e-6
    assert metrics.frobenius_norm(problem).stderr < 1e-6  # which finds the pairs first
    alone = spectral_density(hessian(problem), probes=3, steps=14, outliers=0, check=0)
    assert metrics.frobenius_norm(problem, density=alone).stderr > 0.1


def test_at_its_own_settings_the_frobenius_norm_is_within_ten_percent_where_it_is_hardest() -> None:
    spectrum = torch.cat([torch.zeros(290), torch.full((10,), 2.0)]).double()  # ten equal ones: five are left to probes
    problem, exact = quadratic(symmetric(spectrum)), float(spectrum.norm())
    found = [metrics.METRICS["frobenius_norm"](problem, generator=seeded(seed)) for seed in range(8)]
    errors = torch.stack([each.value - exact for each in found])
    assert all(each.stderr < 0.1 * each.value for each in found)
    assert errors.abs().max() < 3 * torch.stack([each.stderr for each in found]).mean()
    assert errors.square().mean().sqrt() < 0.1 * exact


def test_weighed_by_the_weights_adams_sum_does_not_see_a_rescaling() -> None:
    problem = make("mlp").problem()
    diagonal, w = hessian(problem).dense().diagonal(), problem.vector()
    found = metrics.adam_sharpness(problem, adaptive=True, matvecs=4 * problem.size)
    assert found.value.item() == pytest.approx(float((w.abs() * diagonal.clamp(min=0).sqrt()).sum()), rel=1e-9)
