from math import asin, isnan, pi

import numpy as np
import pytest

from landscape.study import level_with
from landscape.study.statistics.comparison import difference
from landscape.study.statistics.kendall import tau_b


def test_a_twin_is_level_with_the_best_and_noise_is_not():
    random = np.random.default_rng(0)
    rows = []
    for index, gap in enumerate(random.normal(size=60)):
        best = gap + 0.2 * random.normal()
        rows.append({
            "generalization_gap": gap, "cell": index // 2, "best": best, "twin": -(best + 0.01 * random.normal()),
            "worse": gap + 2 * random.normal(), "noise": random.normal(),
        })  # fmt: skip
    assert level_with(rows, "best", ["twin", "worse", "noise"]) == ["twin"]
    assert level_with(rows, "best", ["twin", "worse", "noise"], cluster=["cell"]) == ["twin"]


def test_few_networks_tell_nothing_apart():
    random = np.random.default_rng(1)
    rows = [{"gap": gap, "a": gap + random.normal(), "b": gap + 2 * random.normal()} for gap in random.normal(size=8)]
    assert level_with(rows, "a", ["b"], target="gap") == ["b"]


def test_the_interval_is_around_the_difference_of_the_sizes():
    random = np.random.default_rng(2)
    gap = random.normal(size=40)
    a, b, single = gap + random.normal(size=40), random.normal(size=40) - gap, np.arange(40)
    table = [{"gap": g, "a": p, "b": q} for g, p, q in zip(gap, a, b, strict=True)]
    low, high = difference(table, "a", "b", "gap")
    assert (low + high) / 2 == pytest.approx(tau_b(a, gap, single).value + tau_b(b, gap, single).value)
    assert difference(table, "b", "a", "gap") == pytest.approx((-high, -low))


def test_it_holds_the_true_difference():
    random, truth = np.random.default_rng(3), 2 / pi * (asin(0.9) - asin(0.6))
    held = []
    for _ in range(300):
        gap = np.repeat(random.normal(size=(3, 15)), 3, axis=1)
        own = 0.01 * random.normal(size=(3, 45))
        y, x, z = gap[0] + own[0], 0.9 * gap[0] + 0.19**0.5 * gap[1] + own[1], 0.6 * gap[0] + 0.8 * gap[2] + own[2]
        columns = {"generalization_gap": y, "x": x, "z": z, "cell": np.arange(45) // 3}
        table = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        low, high = difference(table, "x", "z", cluster=["cell"])
        held.append(low <= truth <= high)
    assert np.mean(held) > 0.93 - 3 * (0.93 * 0.07 / 300) ** 0.5


def test_two_clusters_tell_nothing_apart():
    table = [{"gap": i, "a": i, "b": i % 3, "cell": i // 3} for i in range(6)]
    assert all(isnan(end) for end in difference(table, "a", "b", "gap", cluster=["cell"]))
    assert level_with(table, "a", ["b"], "gap", cluster=["cell"]) == ["b"]
