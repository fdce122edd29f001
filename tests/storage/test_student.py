import pytest
import torch
from cases import normal

from landscape.storage.results import standard_error
from landscape.storage.results.student import calibrated_error, widening


def test_one_degree_of_freedom_is_the_cauchy_distribution():
    quantile = torch.tan(torch.tensor(torch.pi * 0.475, dtype=torch.float64))
    assert widening(1) == pytest.approx(float(quantile) / 1.959963985, rel=1e-9)


def test_many_samples_need_no_widening():
    assert 1 < widening(10_000) < 1.001


@pytest.mark.parametrize("count", [2, 4, 10])
def test_intervals_from_few_samples_hold_the_mean_as_often_as_they_say(count):
    runs = normal(count, 20_000, seed=count)
    held = (runs.mean(0).abs() <= 1.96 * calibrated_error(runs)).double().mean()
    assert abs(held - 0.95) < 4 * (0.95 * 0.05 / 20_000) ** 0.5
    assert (runs.mean(0).abs() <= 1.96 * standard_error(runs)).double().mean() < 0.93
