from itertools import permutations as all_orders

import numpy as np
import pytest
from scipy.stats import kendalltau

from landscape.study.statistics.permutation import permutation_p
from landscape.study.statistics.resampling import permutations


def test_p_over_all_orders_is_that_of_counting():
    random = np.random.default_rng(0)
    metrics, gap = random.normal(size=(3, 5)), random.normal(size=5)
    metrics[2, 4] = np.nan
    orders = np.array(list(all_orders(range(5))))

    def tau(x, y):
        return abs(kendalltau(x[np.isfinite(x)], y[np.isfinite(x)]).statistic)

    chance = np.array([[tau(x, gap[order]) for x in metrics] for order in orders])
    there = np.array([tau(x, gap) for x in metrics])
    alone, corrected = permutation_p(metrics, gap, orders, np.arange(5))
    np.testing.assert_allclose(alone, (1 + (chance >= there - 1e-12).sum(0)) / 121)
    np.testing.assert_allclose(corrected, (1 + (chance.max(1, keepdims=True) >= there - 1e-12).sum(0)) / 121)
    assert (corrected >= alone).all()


def smallest(tables: int, cluster: int, given: int, metrics: int = 8, networks: int = 24) -> tuple[np.ndarray, ...]:
    """Smallest p of many unrelated metrics on many tables, alone and corrected; networks of a cluster are all alike."""
    found = []
    for seed in range(tables):
        random = np.random.default_rng(seed)
        values = np.repeat(random.normal(size=(metrics + 1, networks // cluster)), cluster, axis=1)
        values += 0.1 * random.normal(size=values.shape)
        clusters = np.arange(networks) // given
        orders = permutations(clusters, 199, seed)
        found.append([p.min() for p in permutation_p(values[1:], values[0], orders, clusters)])
    return tuple(np.array(found).T)


def test_the_corrected_p_of_the_best_of_many_is_uniform_and_the_plain_one_is_not():
    alone, corrected = smallest(150, cluster=1, given=1)
    for level in (0.1, 0.3, 0.5):
        error = 4 * np.sqrt(level * (1 - level) / 150)
        assert np.mean(corrected <= level) == pytest.approx(level, abs=error)
    assert np.mean(alone <= 0.1) > 0.4  # 1 − 0.9⁸ = 0.57


def test_networks_that_are_alike_must_be_exchanged_together():
    level, error = 0.1, 4 * np.sqrt(0.1 * 0.9 / 100)
    assert np.mean(smallest(100, cluster=3, given=3)[1] <= level) == pytest.approx(level, abs=error)
    assert np.mean(smallest(100, cluster=3, given=1)[1] <= level) > level + error


def test_a_constant_metric_has_no_p():
    metrics = np.stack([np.ones(5), np.arange(5.0)])
    alone, corrected = permutation_p(metrics, np.arange(5.0), np.array(list(all_orders(range(5)))), np.arange(5))
    assert np.isnan(alone[0])
    assert np.isnan(corrected[0])
    assert corrected[1] == pytest.approx(3 / 121)  # itself and its reverse, with the 1 added


def test_pairs_of_one_cluster_do_not_count():
    gap, clusters = np.array([0.0, 1, 10, 11, 20, 21]), np.arange(6) // 2
    right = np.array([1.0, 0, 11, 10, 21, 20])  # between clusters, wrong within
    turned = np.array([21.0, 20, 1, 0, 11, 10])
    orders = np.array([np.concatenate([[2 * k, 2 * k + 1] for k in order]) for order in all_orders(range(3))])
    alone, _ = permutation_p(np.stack([right, turned]), gap, orders, clusters)
    assert alone[0] == pytest.approx(3 / 7)  # 1, and the two orders of three clusters with |tau| = 1
    assert (
        alone[1] == 1
    )  # its |tau| is 1/3, which all orders reach; with the pairs within it is 7/15, as of four orders
