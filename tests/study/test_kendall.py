from itertools import combinations

import numpy as np
import pytest
from scipy.stats import kendalltau

from landscape.study.statistics.kendall import signs, tau_b, weighted_taus


@pytest.fixture
def pair():
    random = np.random.default_rng(0)
    return random.normal(size=12).round(1), random.normal(size=12).round()  # with ties


def by_counting(x, y, clusters, weights=None):
    """tau-b a pair at a time, pairs of one cluster left out."""
    agreement = own = other = 0.0
    weights = np.ones(len(x)) if weights is None else weights
    for i, j in combinations(range(len(x)), 2):
        if clusters[i] != clusters[j]:
            s, t, w = np.sign(x[i] - x[j]), np.sign(y[i] - y[j]), weights[i] * weights[j]
            agreement, own, other = agreement + w * s * t, own + w * s * s, other + w * t * t
    return agreement / (own * other) ** 0.5


def test_tau_b_of_single_networks_is_scipys(pair):
    assert tau_b(*pair, np.arange(12)).value == pytest.approx(kendalltau(*pair).statistic, abs=1e-12)


def test_pairs_of_one_cluster_do_not_count(pair):
    for clusters in (np.arange(12) // 3, np.array([5, 5, 5, 5, 5, 0, 0, 9, 9, 9, 9, 2])):
        assert tau_b(*pair, clusters).value == pytest.approx(by_counting(*pair, clusters), abs=1e-12)
    by_hand = tau_b(np.array([1.0, 2, 3, 4]), np.array([2.0, 1, 4, 3]), np.array([0, 0, 1, 1]))
    assert by_hand.value == 1  # what is wrong lies within the clusters


def test_deviations_are_the_derivative_in_the_weights_of_clusters(pair):
    clusters, step = np.array([0, 0, 0, 1, 1, 2, 3, 3, 3, 3, 4, 4]), 1e-6
    x, y = pair[0], (pair[0] + pair[1]).round()
    found = tau_b(x, y, clusters)
    assert found.value > 0.3
    assert found.deviations.sum() == pytest.approx(0, abs=1e-9)
    for cluster in range(5):
        up, down = (by_counting(x, y, clusters, 1 + sign * step * (clusters == cluster)) for sign in (1, -1))
        assert 2 * found.deviations.sum(1)[cluster] / 20 == pytest.approx((up - down) / (2 * step), abs=1e-8)


def test_the_variance_is_that_of_many_tables():
    """15 settings of 3 seeds; Hoeffding's projection is somewhat above the truth, here by 4 % of the deviation."""
    random = np.random.default_rng(0)
    clusters, values, variances = np.repeat(np.arange(15), 3), [], []
    for _ in range(400):
        a = np.repeat(random.normal(size=15), 3)
        x, y = a + 0.3 * random.normal(size=(2, 45)) + np.repeat(0.8 * random.normal(size=(2, 15)), 3, axis=1)
        found = tau_b(x, y, clusters)
        values.append(found.value)
        variances.append(found.variance)
    assert np.mean(variances) ** 0.5 == pytest.approx(np.std(values), rel=4 / 800**0.5)  # four standard errors


def test_the_variance_is_not_0_where_every_cluster_is_as_often_wrong():
    found = tau_b(np.arange(4.0), np.array([1.0, 0, 3, 2]), np.arange(4))
    assert found.value == pytest.approx(1 / 3)
    assert found.deviations.sum(1) == pytest.approx(0, abs=1e-12)
    assert found.variance == pytest.approx(2 * (1 - 1 / 9) / 12)  # pairs are ±1 around 1/3


def test_weights_repeat_networks(pair):
    x, y = pair
    counts = np.random.default_rng(1).integers(0, 4, size=(5, 12))
    expected = [kendalltau(np.repeat(x, row), np.repeat(y, row)).statistic for row in counts]
    np.testing.assert_allclose(weighted_taus(signs(x), signs(y), counts), expected, atol=1e-12)


def test_a_constant_side_has_no_tau(pair):
    assert np.isnan(tau_b(np.ones(12), pair[1], np.arange(12)).value)


def test_one_cluster_has_no_pairs(pair):
    assert np.isnan(tau_b(*pair, np.zeros(12, dtype=int)).value)
