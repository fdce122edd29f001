from math import asin, isnan, sin

import numpy as np
import pytest
from scipy.stats import t

from landscape.study.statistics.interval import interval
from landscape.study.statistics.kendall import tau_b


def test_it_is_students_on_the_arcsine_scale():
    reach = t.ppf(0.975, 10) * 0.1 / (1 - 0.3**2) ** 0.5
    expected = sin(asin(0.3) - reach), sin(asin(0.3) + reach)
    assert interval(0.3, 0.01, 12) == pytest.approx(expected)
    assert interval(-0.3, 0.01, 12) == pytest.approx((-expected[1], -expected[0]))


def test_it_ends_at_1():
    low, high = interval(0.9, 0.1, 5)
    assert (low < 0, high) == (True, 1)


@pytest.mark.parametrize("clusters", [3, 5, 8, 30])
def test_at_1_it_is_that_of_one_pair_the_other_way_round(clusters):
    y = np.arange(float(clusters))
    swapped = tau_b(y[[1, 0, *range(2, clusters)]], y, np.arange(clusters))
    projected = clusters / (clusters - 1) * ((2 * swapped.deviations.sum(1) / (clusters * (clusters - 1))) ** 2).sum()
    low, high = interval(1.0, 0.0, clusters)
    assert (low, high) == pytest.approx((interval(swapped.value, projected, clusters)[0], 1))
    assert low < 1
    assert interval(-1.0, 0.0, clusters) == (-high, -low)


def test_below_three_clusters_there_is_none():
    assert all(isnan(end) for clusters in (1, 2) for end in interval(0.5, 0.1, clusters))
    assert all(isnan(end) for end in interval(float("nan"), 0.1, 9))


def test_clusters_that_share_a_value_count_as_one():
    x, y, clusters = np.repeat([0.0, 0, 0, 0, 1, 1, 1, 1], 3), np.arange(24.0), np.repeat(np.arange(8), 3)
    found = tau_b(x, y, clusters)
    assert found.tied == 4
    assert tau_b(y, x, clusters).tied == 4
    assert tau_b(y, -y, clusters).tied == 1
    reach = t.ppf(0.975, 3) * 0.1 / (1 - 0.3**2) ** 0.5
    assert interval(0.3, 0.01, 8, 4) == pytest.approx((sin(asin(0.3) - reach), sin(asin(0.3) + reach)))
    assert (found - tau_b(y, y, clusters)).tied == (-found).tied == 4
    one = tau_b(np.repeat([1.0, 0, 0, 0, 0, 0, 0, 0], 3), y, clusters)  # a single cluster tells nothing of its like
    assert all(isnan(end) for end in interval(one.value, one.variance, 8, one.tied))


@pytest.mark.parametrize("share", [0.5, 0.8])
@pytest.mark.parametrize("r", [0.0, 0.7])
def test_it_holds_the_truth_of_a_metric_of_two_values(share, r):
    random, clusters = np.random.default_rng(1), np.arange(8)
    a, b = random.normal(size=(2, 400_000))
    cut = np.quantile(a, share)
    s, d = (np.diff(own.reshape(2, -1), axis=0)[0] for own in ((a > cut) * 1.0, r * a + (1 - r**2) ** 0.5 * b))
    truth = np.mean(s * np.sign(d)) / np.mean(s**2) ** 0.5
    ends = []
    for x, e in random.normal(size=(600, 2, 8)):
        found = tau_b((x > cut) * 1.0, r * x + (1 - r**2) ** 0.5 * e, clusters)
        ends.append(interval(found.value, found.variance, 8, found.tied))
    low, high = np.array([own for own in ends if not isnan(own[0])]).T
    assert len(low) > 250
    assert np.mean((low <= truth) & (truth <= high)) > 0.93 - 3 * (0.07 * 0.93 / len(low)) ** 0.5


@pytest.mark.parametrize(("settings", "least"), [(5, 0.88), (8, 0.93)])
@pytest.mark.parametrize("r", [0.0, 0.91])
def test_it_holds_the_truth(settings, least, r):
    """Jointly normal tables; the full simulation is in figures/interval_coverage."""
    random, count, noise = np.random.default_rng(settings), 600, 0.2
    clusters, truth = np.repeat(np.arange(settings), 3), 2 / np.pi * asin(r)
    shared = r * (1 + noise**2)
    ends = []
    for _ in range(count):
        a, b = np.repeat(random.normal(size=(2, settings)), 3, axis=1)
        x, y = np.stack([a, shared * a + (1 - shared**2) ** 0.5 * b]) + noise * random.normal(size=(2, len(clusters)))
        found = tau_b(x, y, clusters)
        ends.append(interval(found.value, found.variance, settings))
    low, high = np.transpose(ends)
    error = 3 * (least * (1 - least) / count) ** 0.5
    assert np.mean((low <= truth) & (truth <= high)) > least - error
    assert np.mean(high < truth) < 0.06  # it does not sit too low
    if settings == 8:
        assert np.mean((low <= truth) & (truth <= high)) < 0.97 + error
