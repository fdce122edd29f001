from math import exp

import numpy as np
import pytest

from landscape.study.statistics.kendall import signs
from landscape.study.statistics.sign_error import robust_sign_error, weights

# lr, width, seed of eight networks: within lr the metric follows the gap, along width it is wrong on one pair of four
LR, WIDTH, SEED = (np.array([i >> bit & 1 for i in range(8)]) for bit in (2, 1, 0))
GAP = np.array([0.10, 0.12, 0.20, 0.22, 0.30, 0.32, 0.40, 0.42])
METRIC = np.array([1.0, 2.0, 3.0, 1.5, 5.0, 6.0, 7.0, 8.0])


def test_the_worst_environment_counts():
    # width: (0, 2) and (4, 6), (5, 7) are right, (1, 3) is wrong; lr: all right
    assert robust_sign_error(signs(METRIC), GAP, [LR, WIDTH, SEED], [0, 1], None) == 0.25
    assert robust_sign_error(signs(METRIC), GAP, [LR, WIDTH, SEED], [0], None) == 0
    assert robust_sign_error(signs(-METRIC), GAP, [LR, WIDTH, SEED], [0], None) == 1
    assert robust_sign_error(signs(np.ones(8)), GAP, [LR, WIDTH, SEED], [0], None) == 0.5


def test_the_seed_is_an_environment_only_where_it_is_named():
    # seed: (2, 3) is wrong, the other three are right
    assert robust_sign_error(signs(METRIC), GAP, [LR, WIDTH, SEED], [2], None) == 0.25


def test_each_change_between_two_values_is_an_environment():
    value = np.array([0, 1, 2])
    gap, metric = np.array([0.1, 0.2, 0.3]), np.array([1.0, 3.0, 2.0])  # wrong from 1 to 2 only
    assert robust_sign_error(signs(metric), gap, [value], [0], None) == 1
    assert robust_sign_error(signs(metric[:2]), gap[:2], [value[:2]], [0], None) == 0


def test_weights_are_the_papers():
    n, difference = 500, np.array([0.0, 0.05, 0.1, 0.5])
    expected = [max(0.0, 1 - 2 * exp(-2 * n * (d / 2) ** 2)) ** 2 for d in difference]
    np.testing.assert_allclose(weights(difference, n), expected, rtol=1e-12)
    assert expected[0] == expected[1] == 0  # not resolved by 500 samples
    assert expected[2] < expected[3] == pytest.approx(1)


def test_pairs_the_test_set_does_not_resolve_do_not_count():
    close = GAP.copy()
    close[3] = close[1] + 0.001  # the pair that is wrong
    assert robust_sign_error(signs(METRIC), close, [LR, WIDTH, SEED], [1], 1000) == 0
    assert robust_sign_error(signs(METRIC), close, [LR, WIDTH, SEED], [1], None) == 0.25


def test_without_a_pair_there_is_none():
    assert np.isnan(robust_sign_error(signs(GAP), GAP, [np.arange(8), np.arange(8)], [0, 1], None))
    assert np.isnan(robust_sign_error(signs(GAP), GAP, [], [], None))
