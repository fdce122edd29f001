import numpy as np
import pytest
from scipy.stats import kendalltau

from landscape.study import correlate, nested_selection


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
        found = correlate(rows(seed=seed), ["planted", "random"], resamples=1)
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
    # every network three times is the same table, once networks of a cluster count as one
    once = [{**row, "cell": index} for index, row in enumerate(rows(20))]
    thrice = [row for row in once for _ in range(3)]
    thrice[1] = {**thrice[1], "planted": thrice[1]["planted"] + 1e-9}
    alone, clustered = (
        correlate(once, ["planted"])["planted"],
        correlate(thrice, ["planted"], cluster=["cell"])["planted"],
    )
    same = (alone.tau, alone.low, alone.high)
    assert (clustered.tau, clustered.low, clustered.high) == pytest.approx(same, abs=1e-12)
    assert (clustered.count, clustered.clusters, alone.clusters) == (60, 20, 20)
    independent = correlate(thrice, ["planted"])["planted"]
    assert independent.high - independent.low < 0.75 * (alone.high - alone.low)


def test_the_gap_itself_and_a_random_metric() -> None:
    table = [{**row, "itself": row["generalization_gap"], "lr": i // 2 % 2, "seed": i % 2, "width": i // 4}
             for i, row in enumerate(rows(80))]  # fmt: skip
    axes = ["lr", "width", "seed"]
    found = correlate(table, ["itself", "random"], axes=axes, cluster=axes[:-1], given="random")
    own = found["itself"]
    assert (own.tau, own.high, own.information) == pytest.approx((1, 1, 1))
    assert 0.9 < own.low < 1
    assert own.p == own.p_corrected == pytest.approx(1 / 2001)
    assert own.partial == own.partial_high == pytest.approx(1)
    assert 0.9 < own.partial_low < 1
    by_chance = found["random"]
    assert by_chance.information < 0.05
    assert own.information_null < 0.1
    assert by_chance.information_null < 0.1
    assert by_chance.p_corrected > 0.05
    assert np.isnan(by_chance.partial)  # given itself nothing is left


def test_an_interval_is_not_known_where_one_cluster_decides() -> None:
    random = np.random.default_rng(0)
    order = [*range(10), -2, -1]  # one cluster of six alone tells the gap's order from the given column's
    table = [
        {"metric": random.normal(), "generalization_gap": float(gap), "given": float(i), "cell": i // 2}
        for i, gap in enumerate(order)
    ]
    found = correlate(table, ["metric"], cluster=["cell"], given="given")["metric"]
    assert np.isfinite([found.tau, found.low, found.high, found.partial]).all()
    assert np.isnan([found.partial_low, found.partial_high]).all()


def seeded(rates: int, seeds: int) -> list[dict[str, float]]:
    """Between learning rates the metric follows the gap, between seeds it is reversed."""
    return [
        {"generalization_gap": 10.0 * lr + seed, "metric": 10.0 * lr - seed, "lr": lr, "seed": seed}
        for lr in range(rates)
        for seed in range(seeds)
    ]


def test_pairs_of_one_cluster_leave_all_numbers() -> None:
    clustered = correlate(seeded(4, 4), ["metric"], axes=["lr", "seed"], cluster=["lr"])["metric"]
    assert (clustered.tau, clustered.psi_mean, clustered.information) == pytest.approx((1, 1, 1))
    assert clustered.psi["lr"] == 1
    assert np.isnan(clustered.psi["seed"])
    assert clustered.sign_error == 0
    single = correlate(seeded(4, 4), ["metric"], axes=["lr", "seed"])["metric"]
    assert single.tau == pytest.approx((96 - 24) / 120)  # of 120 pairs the 24 within a rate are reversed
    assert (single.psi, single.psi_mean) == ({"lr": 1, "seed": -1}, 0)
    assert np.isnan(single.sign_error)  # one pair for each change of one of the two


def test_ties_count_0_in_psi() -> None:
    # lr 0: rising, lr 1: metric tied, lr 2: gap tied, lr 3: one of three pairs tied
    gap = [0.0, 1, 2, 0, 1, 2, 5, 5, 5, 0, 1, 2]
    metric = [0.0, 1, 2, 7, 7, 7, 0, 1, 2, 0, 0, 2]
    table = [
        {"generalization_gap": g, "metric": m, "lr": i // 3, "width": i % 3}
        for i, (g, m) in enumerate(zip(gap, metric, strict=True))
    ]
    found = correlate(table, ["metric"], axes=["lr", "width"])["metric"]
    assert found.psi["width"] == pytest.approx((1 + 0 + 0 + 2 / 3) / 4)


def test_exchanged_gaps_say_what_chance_is() -> None:
    random = np.random.default_rng(0)
    table = [
        {"generalization_gap": random.normal(), "metric": random.normal(), "follows": 0.0, "lr": lr, "seed": seed}
        for lr in range(5)
        for seed in range(4)
    ]
    for row in table:
        row["follows"] = row["generalization_gap"] + 0.1 * row["metric"]
    found = correlate(table, ["metric", "follows"], axes=["lr", "seed"], cluster=["lr"])
    own = found["metric"]
    # the largest share of ten comparisons of four with four networks: a U test's share has this deviation
    assert 0.5 + 0.5 * (9 / (12 * 16)) ** 0.5 < own.sign_error_chance < 1
    assert own.sign_error_null_low < own.sign_error_chance < own.sign_error_null_high
    assert found["follows"].sign_error < found["follows"].sign_error_null_low


def test_chance_of_the_sign_error_is_that_of_unrelated_metrics() -> None:
    found, told = [], []
    for seed in range(40):
        random = np.random.default_rng(seed)
        table = [{"generalization_gap": random.normal(), "metric": random.normal(), "lr": i // 4} for i in range(20)]
        own = correlate(table, ["metric"], axes=["lr"], cluster=["lr"], resamples=40)["metric"]
        found.append(own.sign_error)
        told.append(own.sign_error_chance)
    assert np.mean(found) == pytest.approx(np.mean(told), abs=4 * np.std(found) / 40**0.5)
    assert np.mean(told) > 0.7


@pytest.mark.parametrize(("settings", "rough", "known"), [(2, True, False), (3, True, True), (8, False, True)])
def test_few_clusters_are_said(settings: int, rough: bool, known: bool) -> None:
    random = np.random.default_rng(settings)
    table = [{**row, "metric": random.normal()} for row in seeded(settings, 3)]
    found = correlate(table, ["metric"], cluster=["lr"], given="seed")["metric"]
    assert (found.clusters, found.rough, bool(np.isfinite([found.low, found.high]).all())) == (settings, rough, known)


def test_one_cluster_has_no_correlation() -> None:
    found = correlate(seeded(1, 6), ["metric"], axes=["lr", "seed"], cluster=["lr"], given="seed")["metric"]
    values = (found.tau, found.low, found.p, found.psi_mean, found.information, found.sign_error, found.partial)
    assert np.isnan(values).all()


def test_missing_numbers_leave_clusters_out() -> None:
    table = seeded(9, 2)
    for row in table[:4]:
        row["metric"] = float("nan")
    found = correlate(table, ["metric"], axes=["lr", "seed"], cluster=["lr"])["metric"]
    assert (found.count, found.clusters, found.rough) == (14, 7, True)
    alone = correlate(table[4:], ["metric"], axes=["lr", "seed"], cluster=["lr"])["metric"]
    assert (found.tau, found.low, found.psi, found.information) == (
        alone.tau, alone.low, pytest.approx(alone.psi, nan_ok=True), alone.information
    )  # fmt: skip


def test_pairs_that_the_test_set_does_not_resolve_leave_the_sign_error() -> None:
    gap = {0: 0.1, 1: 0.3, 2: 0.31}  # learning rates 1 and 2, which the metric has the wrong way round, are too close
    table = [
        {"accuracy_gap": gap[lr] + 1e-4 * seed, "metric": float([0, 2, 1][lr]), "lr": lr, "seed": seed}
        for lr in range(3)
        for seed in range(4)
    ]
    errors = [
        correlate(table, ["metric"], "accuracy_gap", ["lr"], cluster=["lr"], test_samples=size)["metric"].sign_error
        for size in (None, 1000)
    ]
    assert errors == [1, 0]


class Frame:
    """A data frame, as far as it is used."""

    def __init__(self, records: list[dict[str, float]]) -> None:
        self._records = records

    def to_dict(self, orient: str) -> list[dict[str, float]]:
        assert orient == "records"
        return self._records


def test_a_data_frame_is_a_table() -> None:
    table = rows()
    assert repr(correlate(Frame(table), ["planted"], axes=["lr"], resamples=9)) == repr(
        correlate(table, ["planted"], axes=["lr"], resamples=9)
    )
    assert nested_selection(Frame(table), ["planted", "random"]) == nested_selection(table, ["planted", "random"])


def test_correlations_are_a_table_with_the_strongest_first() -> None:
    found = correlate(rows(), ["random", "planted"], axes=["lr", "seed"], resamples=9)
    assert isinstance(found, dict)
    head, names, first, second = repr(found).splitlines()
    assert head == "Correlations(metrics=2)"
    assert names.split() == ["metric", "tau", "p_corrected", "psi_mean", "networks", "clusters"]
    assert [line.split()[0] for line in (first, second)] == ["planted", "random"]
    one = found["planted"]
    assert f"{one.tau:+.2f} [{one.low:+.2f}, {one.high:+.2f}]" in first
    assert f"tau={one.tau:+.2f} [{one.low:+.2f}, {one.high:+.2f}]" in repr(one)
    row = next(row for row in found.rows() if row["metric"] == "planted")
    assert (row["tau"], row["psi_lr"], row["count"]) == (one.tau, one.psi["lr"], 40)
    assert "<td>planted</td>" in found._repr_html_()


def test_what_has_no_interval_is_shown_without_one() -> None:
    one = correlate(rows()[:6], ["planted"], axes=["lr"], cluster=["lr"], resamples=9)["planted"]
    assert one.clusters < 3
    assert f"tau={one.tau:+.2f} no interval" in repr(one)
