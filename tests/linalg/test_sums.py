import pytest
import torch
from cases import Counting, make, seeded, symmetric

from landscape.curvature import ggn, hessian
from landscape.linalg import absolute_trace, eigenvalue_count, log_determinant
from landscape.linalg.operator import MatrixOperator

SETTINGS = {"probes": 5, "steps": 12}
values = torch.cat([torch.linspace(-0.2, 0.2, 93), torch.tensor([10.0, 8, 6, 4, 2, -2, -1])]).double()
matrix = symmetric(values)
SUMS = {
    "log determinant": (log_determinant, {"shift": 3.0}, (values + 3).log().sum()),
    "nuclear norm": (absolute_trace, {}, values.abs().sum()),
    "root": (absolute_trace, {"power": 0.5}, values.abs().sqrt().sum()),
    "count": (eigenvalue_count, {"above": 0.1}, (values > 0.1).double().sum()),
}


@pytest.mark.parametrize("name", SUMS)
def test_intervals_hold_the_sum_as_often_as_they_say(name):
    function, settings, exact = SUMS[name]
    A = MatrixOperator(matrix)
    found = [function(A, **settings, **SETTINGS, outliers=7, generator=seeded(i)) for i in range(60)]
    held = sum(bool((each.value - exact).abs() <= 1.96 * each.stderr) for each in found)
    assert held >= 52  # of 60; 57 on average, with a standard deviation of 1.7
    errors = torch.stack([each.value - exact for each in found]).square().mean().sqrt()
    assert torch.stack([each.stderr for each in found]).mean() < 2 * errors


@pytest.mark.parametrize("name", SUMS)
def test_as_many_products_as_entries_give_the_exact_sum(name):
    function, settings, exact = SUMS[name]
    A = Counting(matrix)
    found = function(A, **settings, probes=5, steps=20)
    assert found.matvecs == A.count == 100
    assert found.stderr == 0
    torch.testing.assert_close(found.value, exact, rtol=1e-9, atol=0)


def test_where_all_that_counts_is_an_outlier_nothing_is_left_to_chance():
    A = MatrixOperator(matrix)
    found = eigenvalue_count(A, above=1.0, probes=5, steps=15, outliers=7)
    assert (found.value, found.stderr) == (5, 0)


def test_outliers_taken_out_first_pay():
    A = Counting(matrix)
    with_them, without = (absolute_trace(A, **SETTINGS, outliers=k) for k in (7, 0))
    assert with_them.stderr < without.stderr / 5
    assert with_them.matvecs + without.matvecs == A.count
    assert without.matvecs == 60
    assert with_them.matvecs <= 60 + 15


def test_a_shift_that_leaves_a_negative_eigenvalue_is_refused():
    for steps in (12, 20):
        with pytest.raises(ValueError, match="must be positive definite, got an eigenvalue of -2; use a shift above 2"):
            log_determinant(MatrixOperator(matrix), shift=1.9, probes=5, steps=steps)
    with pytest.raises(ValueError, match="shift must be at least 0, got -1"):
        log_determinant(MatrixOperator(matrix), shift=-1)


def test_sums_of_a_network():
    problem = make("conv_bn").problem()
    for operator, function, settings, exact in (
        (ggn(problem), log_determinant, {"shift": 0.1}, lambda v: (v + 0.1).log().sum()),
        (hessian(problem), absolute_trace, {"power": 1.5}, lambda v: v.abs().pow(1.5).sum()),
    ):
        truth = exact(torch.linalg.eigvalsh(operator.dense()))
        found = function(operator, **settings, probes=4, steps=15, outliers=4)
        assert found.stderr > 0
        assert abs(found.value - truth) <= 4 * found.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"probes": 1}, "probes must be"), ({"steps": 1}, "steps must be"), ({"power": 0.0}, "power must be")],
)
def test_arguments_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        absolute_trace(MatrixOperator(matrix), **settings)


def test_a_count_in_a_continuous_bulk_has_no_bias():
    """A single number of steps is 4.7 too low here: its nodes lie the same way for every probe."""
    A = MatrixOperator(torch.diag(torch.linspace(0.5, 1.5, 300, dtype=torch.float64)))
    found = [eigenvalue_count(A, above=1.1, probes=6, steps=24, outliers=0, generator=seeded(i)) for i in range(20)]
    samples = torch.stack([each.value for each in found])
    assert abs(samples.mean() - 120) <= 3 * samples.std() / 20**0.5
