import numpy as np
import pytest
from scipy.stats import kendalltau

from landscape.study import correlate


def rows(count: int = 40, noise: float = 0.5, seed: int = 0) -> list[dict[str, float]]:
    random = np.random.default_rng(seed)
    gap = random.normal(size=count)
    return [
        {
            "generalization_gap": g,
            "planted": g + noise * e,
            "random": r,
            "rounded": round(g),
            "lr": i % 2,
            "seed": i // 2,
        }
        for i, (g, e, r) in enumerate(zip(gap, random.normal(size=count), random.normal(size=count), strict=True))
    ]


@pytest.mark.parametrize("metric", ["planted", "random", "rounded"])
def test_tau_is_scipys(metric: str) -> None:
    table = rows()
    expected = kendalltau([row[metric] for row in table], [row["generalization_gap"] for row in table]).statistic
    assert correlate(table, [metric])[metric].tau == pytest.approx(expected, abs=1e-12)


def test_a_planted_metric_has_its_known_tau_in_its_interval_and_a_random_one_holds_zero() -> None:
    # for a bivariate normal pair tau = 2/pi asin(correlation)
    truth = 2 / np.pi * np.arcsin(1 / np.sqrt(1.25))
    covered = {"planted": 0, "random": 0}
    for seed in range(100):
        found = correlate(rows(seed=seed), ["planted", "random"], resamples=300)
        covered["planted"] += found["planted"].low <= truth <= found["planted"].high
        covered["random"] += found["random"].low <= 0 <= found["random"].high
    assert all(88 <= count <= 100 for count in covered.values())  # 95 % of 100 within 3.2 standard errors


def test_psi_compares_only_within_groups() -> None:
    # within a seed the metric falls as the gap rises, between seeds both rise: tau is positive, psi of lr is −1
    table = [
        {"generalization_gap": 10 * seed + lr, "metric": 10 * seed - lr, "lr": lr, "seed": seed}
        for seed in range(4)
        for lr in range(2)
    ]
    found = correlate(table, ["metric"], axes=["lr", "seed"])["metric"]
    assert found.tau > 0.5
    assert found.psi == {"lr": -1.0, "seed": 1.0}
    assert found.psi_mean == 0


def test_an_axis_on_which_nothing_else_agrees_has_no_psi() -> None:
    table = [{"generalization_gap": float(i), "metric": float(i), "lr": i, "seed": i} for i in range(5)]
    found = correlate(table, ["metric"], axes=["lr", "seed"])["metric"]
    assert np.isnan(found.psi["lr"])
    assert np.isnan(found.psi_mean)


def test_rows_that_are_not_finite_are_left_out_and_counted() -> None:
    table = rows()
    table[3]["planted"] = float("nan")
    found = correlate(table, ["planted", "random"])
    assert (found["planted"].count, found["random"].count) == (39, 40)


def test_a_constant_metric_has_no_tau() -> None:
    table = [{**row, "constant": 1.0} for row in rows()]
    assert np.isnan(correlate(table, ["constant"])["constant"].tau)


def test_bad_tables() -> None:
    with pytest.raises(ValueError, match="every row must have the column 'sharpness', 40 of 40 have not"):
        correlate(rows(), ["sharpness"])
    with pytest.raises(ValueError, match="planted: at least 3 networks must have finite numbers, got 2"):
        correlate(rows(2), ["planted"])


def test_copies_are_no_evidence() -> None:
    # every network three times is the same table, once networks of a cluster are drawn and exchanged together
    once = [{**row, "cell": index} for index, row in enumerate(rows(20))]
    thrice = [row for row in once for _ in range(3)]
    alone, clustered = (
        correlate(once, ["planted"])["planted"],
        correlate(thrice, ["planted"], cluster=["cell"])["planted"],
    )
    assert (clustered.low, clustered.high) == pytest.approx((alone.low, alone.high), abs=1e-12)
    assert (clustered.count, clustered.clusters, alone.clusters) == (60, 20, 20)
    independent = correlate(thrice, ["planted"])["planted"]
    assert independent.high - independent.low < 0.75 * (alone.high - alone.low)


def test_the_gap_itself_and_a_random_metric() -> None:
    table = [{**row, "itself": row["generalization_gap"], "lr": i // 2 % 2, "seed": i % 2, "width": i // 4}
             for i, row in enumerate(rows(80))]  # fmt: skip
    axes = ["lr", "width", "seed"]
    found = correlate(table, ["itself", "random"], axes=axes, cluster=axes[:-1], given="random")
    own = found["itself"]
    assert (own.tau, own.low, own.high, own.information, own.sign_error) == pytest.approx((1, 1, 1, 1, 0))
    assert own.p == own.p_corrected == pytest.approx(1 / 2001)
    assert (own.partial, own.partial_low) == pytest.approx((1, 1))
    by_chance = found["random"]
    assert by_chance.information < 0.05
    assert by_chance.p_corrected > 0.05
    assert np.isnan(by_chance.partial)  # given itself nothing is left


def test_an_interval_is_not_known_where_many_resamples_are_undefined() -> None:
    random = np.random.default_rng(0)
    order = [*range(10), 11, 10]  # one cluster of six alone tells the gap's order from the given column's
    table = [
        {"metric": random.normal(), "generalization_gap": float(gap), "given": float(i), "cell": i // 2}
        for i, gap in enumerate(order)
    ]
    found = correlate(table, ["metric"], cluster=["cell"], given="given")["metric"]
    assert np.isfinite([found.tau, found.low, found.high, found.partial]).all()
    assert np.isnan([found.partial_low, found.partial_high]).all()  # 33 % of the resamples lack that cluster


def test_sign_error_and_mean_psi_leave_the_seed_out_where_clusters_do() -> None:
    table = [{"generalization_gap": 10.0 * lr + seed, "metric": 10.0 * lr - seed, "lr": lr, "seed": seed}
             for lr in range(2) for seed in range(2)]  # fmt: skip
    clustered = correlate(table, ["metric"], axes=["lr", "seed"], cluster=["lr"])["metric"]
    assert (clustered.sign_error, clustered.psi, clustered.psi_mean) == (0, {"lr": 1, "seed": -1}, 1)
    single = correlate(table, ["metric"], axes=["lr", "seed"])["metric"]
    assert (single.sign_error, single.psi_mean) == (1, 0)
