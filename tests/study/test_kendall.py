import numpy as np
import pytest
from scipy.stats import kendalltau

from landscape.study.statistics.kendall import signs, tau_b, weighted_taus


@pytest.fixture
def pair():
    random = np.random.default_rng(0)
    return random.normal(size=12).round(1), random.normal(size=12).round()  # with ties


def test_tau_b_is_scipys(pair):
    assert tau_b(*pair) == pytest.approx(kendalltau(*pair).statistic, abs=1e-12)


def test_weights_repeat_networks(pair):
    x, y = pair
    counts = np.random.default_rng(1).integers(0, 4, size=(5, 12))
    expected = [kendalltau(np.repeat(x, row), np.repeat(y, row)).statistic for row in counts]
    np.testing.assert_allclose(weighted_taus(signs(x), signs(y), counts), expected, atol=1e-12)


def test_a_constant_side_has_no_tau(pair):
    assert np.isnan(tau_b(np.ones(12), pair[1]))
