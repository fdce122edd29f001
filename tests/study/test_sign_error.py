from itertools import product
from math import exp

import numpy as np
import pytest

from landscape.study.statistics.sign_error import LEAST, environments, robust_sign_error, weights

# lr and width of four settings, with four seeds each: 16 pairs an environment
LR, WIDTH = np.arange(16) // 8, np.arange(16) // 4 % 2
GAP = 0.1 * LR + 0.02 * WIDTH + 0.001 * np.arange(16) % 0.004


def by_counting(x, gap, axes, samples) -> float:
    """The definition, a pair of settings and a pair of networks at a time."""
    settings = sorted({tuple(axis[i] for axis in axes) for i in range(len(gap))})
    errors = []
    for first, second in ((a, b) for a, b in product(settings, settings) if a < b):
        if sum(u != v for u, v in zip(first, second, strict=True)) != 1:
            continue
        ends = [[i for i in range(len(gap)) if tuple(axis[i] for axis in axes) == end] for end in (first, second)]
        pairs = [
            ((1 - np.sign(x[i] - x[j]) * np.sign(gap[i] - gap[j])) / 2, own)
            for i, j in product(*ends)
            if (own := float(weights(np.abs(gap[i] - gap[j])[None], samples)[0])) > 0
        ]
        total, squares = sum(w for _, w in pairs), sum(w * w for _, w in pairs)
        if total and total**2 / squares >= LEAST:
            errors.append(sum(w * e for e, w in pairs) / total)
    return max(errors, default=float("nan"))


def error(x, gap, axes, samples=None) -> float:
    return float(robust_sign_error(np.asarray(x, float), gap[None], environments(axes, len(gap)), samples)[0])


def test_by_hand():
    assert error(GAP, GAP, [LR, WIDTH]) == 0
    assert error(-GAP, GAP, [LR, WIDTH]) == 1
    assert error(np.ones(16), GAP, [LR, WIDTH]) == 0.5
    one_wrong = GAP.copy()
    one_wrong[4] = -1.0  # the first network of lr 0, width 1 below all: four of its 16 pairs with width 0 are wrong
    assert error(one_wrong, GAP, [LR, WIDTH]) == 4 / 16
    assert error(one_wrong, GAP, [LR]) == 0  # and none of those with lr 1
    assert error(one_wrong, GAP, [WIDTH]) == 4 / 64  # all of one width against all of the other


def test_settings_that_differ_twice_are_not_compared():
    twice = 10.0 * (LR == WIDTH) + LR  # between (0, 0) and (1, 1) right, of all others one half
    assert error(twice, GAP, [LR, WIDTH]) == 1
    assert error(twice, GAP, [np.where(LR == WIDTH, LR, 2 + LR)]) == 1
    diagonal = np.flatnonzero(LR == WIDTH)
    assert np.isnan(error(twice[diagonal], GAP[diagonal], [LR[diagonal], WIDTH[diagonal]]))


@pytest.mark.parametrize("samples", [None, 200, 3000])
def test_it_is_the_definition(samples):
    random = np.random.default_rng(0)
    axes = [np.arange(48) // 24, np.arange(48) // 8 % 3]
    gap = 0.2 * random.random(48) + 0.05 * axes[1]
    x = gap + 0.1 * random.normal(size=48)
    assert error(x, gap, axes, samples) == pytest.approx(by_counting(x, gap, axes, samples), nan_ok=True)
    assert np.isfinite(error(x, gap, axes, 3000))


def test_environments_of_less_than_twelve_pairs_are_left_out():
    three, four = (np.concatenate([np.arange(seeds) + 4 * k for k in range(4)]) for seeds in (3, 4))
    assert np.isnan(error(GAP[three], GAP[three], [LR[three], WIDTH[three]]))  # 9 pairs each
    assert error(GAP[four], GAP[four], [LR[four], WIDTH[four]]) == 0
    three_and_four = np.delete(np.arange(16), [3, 11])  # 12 along width
    assert error(GAP[three_and_four], GAP[three_and_four], [LR[three_and_four], WIDTH[three_and_four]]) == 0
    unequal = np.where(np.arange(16) % 4 < 2, GAP, GAP * 1e-6)  # 16 pairs of which the test set resolves few
    assert np.isnan(error(unequal, unequal, [LR, WIDTH], 500))


def test_weights_are_the_papers():
    n, difference = 500, np.array([0.0, 0.05, 0.09, 0.1, 0.5])
    resolved = [max(0.0, 1 - 2 * exp(-2 * n * (d / 2) ** 2)) ** 2 for d in difference]
    np.testing.assert_allclose(weights(difference, n), [max(0, p - 0.5) for p in resolved], rtol=1e-12)
    assert weights(difference, n)[:2].tolist() == [0, 0]  # not resolved by 500 samples
    assert 0 < weights(difference, n)[3] < weights(difference, n)[4] == pytest.approx(0.5)


def test_pairs_the_test_set_does_not_resolve_do_not_count():
    wrong = GAP.copy()
    wrong[4] = -1.0
    assert error(wrong, GAP, [LR, WIDTH], 3000) == 0  # widths differ by .02, not resolved; lr by .1, all right


def test_a_network_without_the_metric_does_not_count():
    x = GAP.copy()
    x[4] = np.nan  # 12 pairs are left
    assert error(x, GAP, [LR, WIDTH]) == 0
    x[8:10] = np.nan  # 8 are left of lr 1, which drops out
    x[15] = -1.0
    assert error(x, GAP, [WIDTH, LR]) == pytest.approx(4 / 16)  # of (0, 1) and (1, 1), with 12 pairs
    assert np.isnan(error(np.full(16, np.nan), GAP, [LR, WIDTH]))


def test_many_gaps_at_once(monkeypatch):
    gaps = np.random.default_rng(0).random((7, 16))
    among = environments([LR, WIDTH], 16)
    together = robust_sign_error(GAP, gaps, among, None)
    monkeypatch.setattr("landscape.study.statistics.sign_error.AT_ONCE", 100)
    assert robust_sign_error(GAP, gaps, among, None).tolist() == together.tolist()
    assert together.tolist() == [error(GAP, gap, [LR, WIDTH]) for gap in gaps]


def test_without_a_pair_there_is_none():
    assert np.isnan(error(GAP, GAP, [np.arange(16), np.arange(16)]))
    assert np.isnan(error(GAP, GAP, []))
