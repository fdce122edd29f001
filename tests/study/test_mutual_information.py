from collections import Counter
from itertools import combinations, permutations
from math import log

import numpy as np
import pytest

from landscape.study.statistics.kendall import signs
from landscape.study.statistics.mutual_information import conditional_information


def information(metric, gap, axes, clusters=None, **sizes) -> float:
    clusters = np.arange(len(gap)) if clusters is None else clusters
    return conditional_information(signs(metric), [signs(gap)], axes, clusters, **sizes)[0]


def by_counting(metric, gap, axes, clusters) -> float:
    """The definition, a pair at a time."""
    shares = []
    for size in range(3):
        for subset in combinations(axes, size):
            pairs = [
                (tuple((a[i], a[j]) for a in subset), np.sign(metric[i] - metric[j]), np.sign(gap[i] - gap[j]))
                for i, j in permutations(range(len(gap)), 2)
                if clusters[i] != clusters[j]
            ]
            of_u, of_ug = Counter(u for u, _, _ in pairs), Counter((u, g) for u, _, g in pairs)
            of_um, of_all = Counter((u, m) for u, m, _ in pairs), Counter(pairs)
            left = -sum(n / len(pairs) * log(n / of_u[u]) for (u, _), n in of_ug.items())
            told = sum(
                n / len(pairs) * log(n * of_u[u] / (of_um[u, m] * of_ug[u, g])) for (u, m, g), n in of_all.items()
            )
            shares += [told / left] if left > 1e-12 else []
    return min(shares)


@pytest.fixture
def tables():
    random = np.random.default_rng(0)
    axes = [np.array([i // 6 for i in range(12)]), np.array([i // 2 % 3 for i in range(12)]), np.arange(12) % 2]
    gap = axes[0] + random.normal(size=12).round(1)
    return axes, gap, axes[0] + 0.3 * gap + random.normal(size=12)


def test_k_is_the_smallest_share_over_all_sets(tables):
    axes, gap, metric = tables
    for clusters in (np.arange(12), np.arange(12) // 2):
        found = information(metric, gap, axes, clusters)
        assert found == pytest.approx(by_counting(metric, gap, axes, clusters), abs=1e-12)
    many = conditional_information(signs(metric), [signs(gap), signs(metric)], axes, clusters)
    assert many == pytest.approx([found, information(metric, metric, axes, clusters)])
    assert information(metric, gap, []) != pytest.approx(found)


def test_the_gap_itself_and_its_reverse_tell_all(tables):
    axes, gap, _ = tables
    assert information(gap, gap, axes) == pytest.approx(1)
    assert information(-gap, gap, axes) == pytest.approx(1)


def test_a_hyper_parameter_tells_nothing_beyond_itself(tables):
    axes, _, _ = tables
    gap = axes[0] + 0.1 * np.random.default_rng(1).normal(size=12)
    assert information(axes[0].astype(float), gap, []) > 0.3
    assert information(axes[0].astype(float), gap, axes) == pytest.approx(0, abs=1e-12)


def test_nor_do_two_hyper_parameters_together(tables):
    (a, b, _), _, _ = tables
    gap = a + b + 0.1 * np.random.default_rng(1).normal(size=12)
    assert information(a + 1.0 * b, gap, [a, b], largest=1) > 0.1
    assert information(a + 1.0 * b, gap, [a, b]) == pytest.approx(0, abs=1e-12)


def test_a_random_metric_tells_next_to_nothing():
    random = np.random.default_rng(0)
    axes = [random.permutation(100) % 2, random.permutation(100) % 5]
    found = [information(random.normal(size=100), random.normal(size=100), axes) for _ in range(20)]
    assert min(found) >= 0
    assert max(found) < 0.03  # I is about τ²/2 nats of H = log 2; three standard deviations of τ are 0.2


def test_a_constant_gap_has_none(tables):
    axes, gap, _ = tables
    assert np.isnan(information(gap, np.ones(12), axes))
