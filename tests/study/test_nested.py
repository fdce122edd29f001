import numpy as np
import pytest

from landscape.study import nested_selection


def table(variants: int, noise: float | None, networks: int = 60, seed: int = 0) -> list[dict[str, float]]:
    """Variants that are the gap and noise, or have nothing to do with it."""
    random = np.random.default_rng(seed)
    gap = random.normal(size=networks)
    columns = {
        f"v{i}": random.normal(size=networks) * (noise or 1) + (0 if noise is None else gap) for i in range(variants)
    }
    return [
        {"generalization_gap": gap[j], "cell": j // 2, **{name: values[j] for name, values in columns.items()}}
        for j in range(networks)
    ]


def test_luck_is_not_rewarded():
    names = [f"v{i}" for i in range(20)]
    found = [nested_selection(table(20, 3.0, seed=seed), names, halvings=50) for seed in range(40)]
    nested, naive = (np.array([getattr(each, key) for each in found]) for key in ("tau", "best_tau"))
    truth = 2 / np.pi * np.arcsin(0.1**0.5)  # of each variant: a bivariate normal pair
    assert nested.mean() == pytest.approx(truth, abs=4 * nested.std() / 40**0.5)
    assert naive.mean() > truth + 4 * naive.std() / 40**0.5


def test_the_one_variant_that_follows_the_gap_is_chosen():
    rows = [{**row, "good": row["generalization_gap"] * 2} for row in table(3, None)]
    found = nested_selection(rows, ["v0", "good", "v1"])
    assert found.chosen == {"good": 1.0}
    assert (found.tau, found.low, found.high, found.best, found.best_tau) == (1, 1, 1, "good", 1)


def test_shares_add_up_and_the_seed_decides():
    rows = table(4, 1.0)
    found = nested_selection(rows, ["v0", "v1", "v2", "v3"], cluster=["cell"])
    assert sum(found.chosen.values()) == pytest.approx(1)
    assert found == nested_selection(rows, ["v0", "v1", "v2", "v3"], cluster=["cell"])
    truth = 2 / np.pi * np.arcsin(0.5**0.5)  # of a bivariate normal pair
    assert found.tau == pytest.approx(truth, abs=0.2)


def test_what_cannot_be_halved_is_named():
    with pytest.raises(ValueError, match="at least two columns to choose from, got 1"):
        nested_selection(table(1, 1.0), ["v0"])
    with pytest.raises(ValueError, match="at least 4 clusters must have finite numbers in all variants, got 3"):
        nested_selection(table(2, 1.0, networks=6), ["v0", "v1"], cluster=["cell"])


def test_pairs_of_one_cluster_do_not_count():
    rows = [{"generalization_gap": 10 * k + i, "v0": 10 * k - i, "v1": 10 * k + i * (k % 2), "cell": k}
            for k in range(8) for i in range(3)]  # fmt: skip
    found = nested_selection(rows, ["v0", "v1"], cluster=["cell"])
    assert (found.tau, found.best_tau) == (1, 1)  # both are right between cells
