import numpy as np

from landscape.study import level_with


def test_a_twin_is_level_with_the_best_and_noise_is_not():
    random = np.random.default_rng(0)
    rows = []
    for index, gap in enumerate(random.normal(size=60)):
        best = gap + 0.2 * random.normal()
        rows.append({
            "generalization_gap": gap, "cell": index // 2, "best": best, "twin": -(best + 0.01 * random.normal()),
            "worse": gap + 2 * random.normal(), "noise": random.normal(),
        })  # fmt: skip
    assert level_with(rows, "best", ["twin", "worse", "noise"], resamples=500) == ["twin"]
    assert level_with(rows, "best", ["twin", "worse", "noise"], cluster=["cell"], resamples=500) == ["twin"]


def test_few_networks_tell_nothing_apart():
    random = np.random.default_rng(1)
    rows = [{"gap": gap, "a": gap + random.normal(), "b": gap + 2 * random.normal()} for gap in random.normal(size=8)]
    assert level_with(rows, "a", ["b"], target="gap", resamples=500) == ["b"]
