import numpy as np
import pytest
from scipy.stats import rankdata

from landscape.study.statistics.interval import interval, most_tied
from landscape.study.statistics.partial import partial_correlations, partial_interval

SINGLE = np.arange(30)


def residual_correlation(x, y, z, clusters=SINGLE) -> float:
    """The other way round: correlation of what least squares on the ranks of z leaves of the ranks of x and y."""
    ranks = [rankdata(v).astype(float) for v in (x, y, z)]
    for rank in ranks:  # less the rank among the own cluster
        for cluster in set(clusters):
            own = clusters == cluster
            rank[own] -= rankdata(rank[own])
    line = np.stack([np.ones(len(x)), ranks[2]], axis=1)
    left = [r - line @ np.linalg.lstsq(line, r)[0] for r in ranks[:2]]
    return float(np.corrcoef(*left)[0, 1])


@pytest.fixture
def three():
    random = np.random.default_rng(0)
    z = random.normal(size=30)
    return (z + random.normal(size=30)).round(1), (z + random.normal(size=30)).round(), z


def test_it_is_the_correlation_of_residuals(three):
    for clusters in (SINGLE, SINGLE // 3, np.maximum(SINGLE, 10)):
        found = partial_correlations(*three, np.ones((1, 30)), clusters)
        assert found[0] == pytest.approx(residual_correlation(*three, clusters), abs=1e-12)


def test_weights_leave_networks_out(three):
    kept = np.random.default_rng(1).random((3, 30)) < 0.7
    expected = [residual_correlation(*(v[row] for v in three), SINGLE[row]) for row in kept]
    np.testing.assert_allclose(partial_correlations(*three, kept, SINGLE), expected, atol=1e-12)


def test_the_interval_is_the_jackknife_over_clusters(three):
    clusters = SINGLE // 3
    left = [residual_correlation(*(v[clusters != k] for v in three), clusters[clusters != k]) for k in range(10)]
    value = residual_correlation(*three, clusters)
    variance = 0.9 * np.sum((left - np.mean(left)) ** 2)
    ends = interval(value, variance, 10, most_tied(10, *three[:2]))
    assert partial_interval(*three, clusters) == pytest.approx((value, *ends), abs=1e-10)


def test_it_holds_the_truth():
    random, held = np.random.default_rng(4), []
    xy, xz = (6 / np.pi * np.arcsin(r / 2) for r in (0.8, 0.6))  # Spearman's r of jointly normal numbers
    truth = (xy - xz**2) / (1 - xz**2)
    root = np.linalg.cholesky([[1, 0.8, 0.6], [0.8, 1, 0.6], [0.6, 0.6, 1]])
    for _ in range(300):
        columns = np.repeat(root @ random.normal(size=(3, 15)), 2, axis=1) + 1e-3 * random.normal(size=(3, 30))
        _, low, high = partial_interval(*columns, SINGLE // 2)
        held.append(low <= truth <= high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.02 + 3 * (0.95 * 0.05 / 300) ** 0.5)


def test_without_two_clusters_there_is_no_interval(three):
    assert np.isnan(partial_interval(*three, SINGLE // 15)[1:]).all()
    assert np.isnan(partial_interval(*three, np.zeros(30, dtype=int))).all()


def test_a_common_cause_leaves_next_to_nothing():
    random = np.random.default_rng(0)
    z, e, f = random.normal(size=(3, 2000))
    xy, xz = (6 / np.pi * np.arcsin(r / 2) for r in (0.5, 0.5**0.5))  # Spearman's r of jointly normal numbers
    truth = (xy - xz**2) / (1 - xz**2)
    assert truth < 0.02
    found = partial_correlations(z + e, z + f, z, np.ones((1, 2000)), np.arange(2000))[0]
    assert found == pytest.approx(truth, abs=4 / 2000**0.5)


def test_a_function_of_the_third_has_none(three):
    x, y, z = three
    assert np.isnan(partial_correlations(x, z**3, z, np.ones((1, 30)), SINGLE)[0])
    assert np.isnan(partial_correlations(np.ones(30), y, z, np.ones((1, 30)), SINGLE)[0])
