import sys

import pytest
import torch
from cases import Counting, KilledError, make, seeded, symmetric

from landscape.curvature import ggn
from landscape.linalg import trace
from landscape.linalg.operator import MatrixOperator

METHODS = ["xtrace", "hutch++", "hutchinson"]
SPECTRA = {
    "decaying": torch.logspace(2, -4, 60),
    "indefinite": torch.cat([torch.linspace(-1, 1, 50), torch.linspace(-6, 9, 10)]),
    "flat": torch.linspace(0.5, 1.5, 60),
}
SEEDS = 300


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SPECTRA)
def test_estimates_average_to_the_trace(name, method):
    A, exact = MatrixOperator(symmetric(SPECTRA[name])), float(SPECTRA[name].double().sum())
    found = [trace(A, matvecs=12, method=method, generator=seeded(i)) for i in range(SEEDS)]
    values = torch.stack([each.value for each in found])
    assert abs(values.mean() - exact) <= 4 * values.std() / SEEDS**0.5
    errors = (values - exact).abs()
    stated = torch.stack([each.stderr for each in found])
    assert (errors <= 4 * stated).double().mean() > 0.85
    assert 0.2 * errors.square().mean().sqrt() < stated.square().mean().sqrt() < 5 * errors.square().mean().sqrt()


@pytest.mark.parametrize(("method", "share"), [("xtrace", 2), ("hutch++", 3)])
@pytest.mark.parametrize("rank", [0, 1, 5, 9])
def test_low_rank_is_exact(rank, method, share):
    spectrum = torch.zeros(60)
    spectrum[:rank] = torch.linspace(-3, 7, rank) if rank else 0
    matrix = symmetric(spectrum)
    for seed in range(5):
        found = (
            trace(MatrixOperator(matrix), matvecs=share * (rank + 1), method=method, generator=seeded(seed))
            if rank
            else trace(MatrixOperator(matrix), matvecs=6, method=method)
        )
        assert abs(found.value - matrix.trace()) <= 1e-12 * max(float(matrix.norm()), 1e-300)
        assert found.stderr <= 1e-12 * max(float(matrix.norm()), 1e-300)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("matvecs", [6, 7, 20, 59, 60, 61])
@pytest.mark.parametrize("spectrum", [torch.linspace(1, 2, 60), torch.cat([torch.ones(1), torch.zeros(59)])])
def test_products_are_counted_and_stay_in_the_budget(method, matvecs, spectrum):
    A = Counting(symmetric(spectrum))
    found = trace(A, matvecs=matvecs, method=method)
    assert found.matvecs == A.count <= matvecs
    assert found.value.dtype == torch.float64


@pytest.mark.parametrize("method", METHODS)
def test_as_many_products_as_entries_give_the_exact_trace(method):
    matrix = symmetric(SPECTRA["indefinite"])
    found = trace(MatrixOperator(matrix), matvecs=60, method=method)
    torch.testing.assert_close(found.value, matrix.trace(), rtol=1e-12, atol=0)
    assert found.stderr == 0


def test_sketches_are_far_more_accurate_than_hutchinson_where_the_spectrum_decays():
    matrix = symmetric(100 * 0.6 ** torch.arange(200))
    errors = {
        method: torch.stack(
            [trace(MatrixOperator(matrix), matvecs=40, method=method, generator=seeded(i)).value for i in range(30)]
        )
        .sub(matrix.trace())
        .square()
        .mean()
        .sqrt()
        for method in METHODS
    }
    assert errors["xtrace"] < errors["hutchinson"] / 100
    assert errors["hutch++"] < errors["hutchinson"] / 20


def test_hutchinson_of_a_long_vector_takes_few_at_a_time(monkeypatch):
    A = Counting(symmetric(SPECTRA["indefinite"]), columns=64)
    monkeypatch.setattr(sys.modules["landscape.linalg.trace"], "ENTRIES", 3 * A.shape[0])
    found = trace(A, matvecs=20, method="hutchinson", generator=seeded(0))
    assert max(A.widths) == 3
    assert abs(found.value - SPECTRA["indefinite"].double().sum()) < 4 * found.stderr


def test_hutchinson_over_all_signs_is_the_trace(monkeypatch):
    matrix = symmetric(torch.tensor([1.0, -2.0, 5.0, 0.5, 3.0, 2.0, 1.0, 4.0]))
    signs = 2.0 * ((torch.arange(256)[:, None] >> torch.arange(8)) & 1) - 1
    signs = signs.double().T
    chosen = iter(signs.split(4, dim=1))
    monkeypatch.setattr(sys.modules["landscape.linalg.trace"], "rademacher", lambda *_: next(chosen))
    values = [trace(MatrixOperator(matrix), matvecs=4, method="hutchinson").value for _ in range(64)]
    torch.testing.assert_close(torch.stack(values).mean(), matrix.trace(), rtol=1e-13, atol=0)


def test_the_loss_scale_does_not_matter():
    matrix = symmetric(SPECTRA["decaying"])
    for method in METHODS:
        one, small = (trace(MatrixOperator(matrix * c), matvecs=12, method=method).value for c in (1.0, 1e-9))
        torch.testing.assert_close(small * 1e9, one, rtol=1e-9, atol=0)


def test_single_precision():
    matrix = symmetric(SPECTRA["decaying"])
    single, double = (trace(MatrixOperator(matrix.to(dtype)), matvecs=50) for dtype in (torch.float32, torch.float64))
    torch.testing.assert_close(single.value, double.value, rtol=1e-4, atol=0)


def test_trace_of_a_network():
    G = ggn(make("mlp").problem())
    exact = G.dense().trace()
    found = trace(G, matvecs=40)
    assert abs(found.value - exact) <= 4 * found.stderr + 1e-10 * exact
    assert found.stderr < 0.01 * exact


@pytest.mark.parametrize(("method", "least"), [("xtrace", 4), ("hutch++", 6), ("hutchinson", 2)])
def test_too_few_products_are_refused(method, least):
    A = MatrixOperator(symmetric(SPECTRA["flat"]))
    trace(A, matvecs=least, method=method)
    with pytest.raises(ValueError, match=f"matvecs must be an integer at least {least}, got {least - 1}"):
        trace(A, matvecs=least - 1, method=method)


def test_the_method_is_checked():
    with pytest.raises(ValueError, match=r"method must be one of 'xtrace' .* got 'exact'"):
        trace(MatrixOperator(torch.eye(3)), matvecs=3, method="exact")


COVERED = {
    "flat": torch.linspace(0.5, 1.5, 100),
    "step": torch.where(torch.arange(100) < 20, 1.0, 1e-3),
    "outliers": torch.cat([torch.linspace(-0.2, 0.2, 93), torch.tensor([10.0, 8, 6, 4, 2, -2, -1])]),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", COVERED)
def test_intervals_hold_the_trace_as_often_as_they_say(name, method):
    """All of figures/trace_calibration in small: a 95 % interval covers 90-99 % of the runs."""
    A, exact = MatrixOperator(symmetric(COVERED[name])), COVERED[name].double().sum()
    found = [trace(A, matvecs=24, method=method, generator=seeded(i)) for i in range(SEEDS)]
    held = sum(bool((each.value - exact).abs() <= 1.96 * each.stderr) for each in found) / SEEDS
    assert 0.90 <= held <= 0.99


@pytest.mark.parametrize("method", METHODS)
def test_rounds_go_on_until_the_error_is_small_enough(method):
    matrix = symmetric(torch.linspace(0.5, 1.5, 400))
    A = Counting(matrix)
    rtol = 0.005 if method == "hutch++" else 0.003
    found = trace(A, rtol=rtol, matvecs=399, method=method)
    assert 32 < found.matvecs == A.count <= 399
    assert found.stderr <= rtol * found.value
    assert found.details == {"rtol": rtol, "reached": 1.0}
    looser = trace(A, rtol=0.05, matvecs=399, method=method)
    assert looser.matvecs == 32


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("limit", [20, 33, 50])
def test_a_budget_that_is_too_small_is_spent_and_said_to_be(method, limit):
    A = Counting(symmetric(torch.linspace(0.5, 1.5, 200)))
    found = trace(A, rtol=1e-6, matvecs=limit, method=method)
    assert limit - 1 <= found.matvecs == A.count <= limit
    assert found.details["reached"] == 0
    assert found.stderr > 1e-6 * found.value


@pytest.mark.parametrize("method", METHODS)
def test_rounds_end_with_the_exact_sum_where_the_budget_allows_it(method):
    matrix = symmetric(torch.linspace(0.5, 1.5, 60))
    A = Counting(matrix)
    found = trace(A, rtol=1e-9, matvecs=200, method=method)
    assert (found.stderr, found.details["reached"]) == (0, 1)
    assert found.matvecs == A.count == 48 + 60
    torch.testing.assert_close(found.value, matrix.trace(), rtol=1e-13, atol=0)


@pytest.mark.parametrize("rtol", [None, 1e-3])
@pytest.mark.parametrize("method", METHODS)
def test_a_killed_run_goes_on_and_ends_with_the_same_numbers(method, rtol, tmp_path):
    matrix, path = symmetric(torch.linspace(0.5, 1.5, 200)), tmp_path / "trace.npz"
    settings = {"method": method, "matvecs": 120, "rtol": rtol, "resume": path}
    generators = seeded(3), seeded(3), seeded(3)
    whole = trace(MatrixOperator(matrix), generator=generators[0], **settings)
    assert not path.exists()
    with pytest.raises(KilledError):
        trace(Counting(matrix, life=90), generator=generators[1], **settings)
    assert path.exists()
    rest = Counting(matrix)
    found = trace(rest, generator=generators[2], **settings)
    assert (found.value, found.stderr, found.matvecs) == (whole.value, whole.stderr, whole.matvecs)
    assert rest.count == whole.matvecs - 72
    assert torch.equal(generators[0].get_state(), generators[2].get_state())
    assert not path.exists()


def test_a_checkpoint_of_other_work_is_refused(tmp_path):
    matrix, path = symmetric(torch.linspace(0.5, 1.5, 200)), tmp_path / "trace.npz"
    with pytest.raises(KilledError):
        trace(Counting(matrix, life=90), matvecs=120, resume=path)
    for other in ({"method": "hutchinson"}, {"matvecs": 130}, {"rtol": 0.1}, {"generator": seeded(1)}):
        with pytest.raises(ValueError, match="is of other work"):
            trace(MatrixOperator(matrix), **{"matvecs": 120, "resume": path, **other})


def test_the_tolerance_is_checked():
    with pytest.raises(ValueError, match="rtol must be positive and finite, got 0"):
        trace(MatrixOperator(torch.eye(30)), rtol=0.0)
