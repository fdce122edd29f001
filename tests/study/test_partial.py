import numpy as np
import pytest
from scipy.stats import rankdata

from landscape.study.statistics.partial import partial_correlations


def residual_correlation(x, y, z) -> float:
    """The other way round: correlation of what least squares on the ranks of z leaves of the ranks of x and y."""
    ranks = [rankdata(v) for v in (x, y, z)]
    line = np.stack([np.ones(len(x)), ranks[2]], axis=1)
    left = [r - line @ np.linalg.lstsq(line, r)[0] for r in ranks[:2]]
    return float(np.corrcoef(*left)[0, 1])


@pytest.fixture
def three():
    random = np.random.default_rng(0)
    z = random.normal(size=30)
    return (z + random.normal(size=30)).round(1), (z + random.normal(size=30)).round(), z


def test_it_is_the_correlation_of_residuals(three):
    found = partial_correlations(*three, np.ones((1, 30)))
    assert found[0] == pytest.approx(residual_correlation(*three), abs=1e-12)


def test_weights_repeat_networks(three):
    counts = np.random.default_rng(1).integers(0, 4, size=(3, 30))
    expected = [residual_correlation(*(np.repeat(v, row) for v in three)) for row in counts]
    np.testing.assert_allclose(partial_correlations(*three, counts), expected, atol=1e-12)


def test_a_common_cause_leaves_next_to_nothing():
    random = np.random.default_rng(0)
    z, e, f = random.normal(size=(3, 2000))
    xy, xz = (6 / np.pi * np.arcsin(r / 2) for r in (0.5, 0.5**0.5))  # Spearman's r of jointly normal numbers
    truth = (xy - xz**2) / (1 - xz**2)
    assert truth < 0.02
    found = partial_correlations(z + e, z + f, z, np.ones((1, 2000)))[0]
    assert found == pytest.approx(truth, abs=4 / 2000**0.5)


def test_a_function_of_the_third_has_none(three):
    x, y, z = three
    assert np.isnan(partial_correlations(x, z**3, z, np.ones((1, 30)))[0])
    assert np.isnan(partial_correlations(np.ones(30), y, z, np.ones((1, 30)))[0])
