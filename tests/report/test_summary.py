from dataclasses import replace
from math import nan

import pytest
from planted import AXES, evidence, rows

from landscape.report.evidence import TRAIN_LOSS
from landscape.report.summary import findings, limits
from landscape.study import nested_selection


def test_what_was_planted_is_found_with_its_direction() -> None:
    said = evidence(rows(1.0))
    text = " ".join(findings(said))
    found = said.correlations["trace"]
    assert said.clear == ["trace", "renyi"]
    assert "2 of 4 metrics follow the gap" in text
    assert f"Rising with it: 1 (trace {found.tau:+.2f} [{found.low:+.2f}, {found.high:+.2f}])" in text
    assert "Falling as it rises: 1 (renyi -" in text
    assert "60 networks were compared, which differ in rule, lr, seed" in text
    assert f"the order by trace tells most of the gap's order: K = {found.information:.2f}" in text
    assert f"and chance gives {found.information_null:.2g}" in text
    assert f"exchanged gaps give {found.sign_error_chance:.0%} on average" in text
    assert "which 1 of 4 metrics stay below (trace)" in text


def test_what_the_training_loss_leaves_open_is_said() -> None:
    whole = evidence(rows(1.0))
    name = whole.clear[0]
    known = f"Given the training loss, {len(whole.clear)} of these {len(whole.clear)} keep"
    assert known in " ".join(findings(whole))
    open_one = replace(whole.correlations[name], partial_low=float("nan"), partial_high=float("nan"))
    text = " ".join(findings(replace(whole, correlations={**whole.correlations, name: open_one})))
    assert f"Given the training loss, {len(whole.clear) - 1} of these {len(whole.clear)} keep" in text
    assert "for 1 the networks leave it open" in text


@pytest.mark.parametrize(("names", "kept", "said"), [
    (["trace"], 0, "this one does not keep a"), (["trace"], 1, "this one keeps a"),
    (["trace", TRAIN_LOSS], 0, "the other one does not keep a"), (["trace", TRAIN_LOSS], 1, "the other one keeps a"),
    (["trace", "renyi"], 0, "none of these 2 keeps a"), (["trace", "renyi"], 1, "1 of these 2 keeps a"),
    (["trace", "renyi", TRAIN_LOSS], 2, "2 of these 2 others keep a"),
])  # fmt: skip
def test_how_many_keep_a_correlation_is_grammatical(names: list[str], kept: int, said: str) -> None:
    whole = evidence(rows(1.0))
    ends = [(0.1, 0.2) if index < kept else (-0.1, 0.2) for index in range(len(names))]
    found = {
        name: replace(whole.correlations["trace"], p_corrected=0.01, partial_low=low, partial_high=high)
        for name, (low, high) in zip(names, ends, strict=True)
    }
    text = " ".join(findings(replace(whole, correlations=found)))
    assert f"Given the training loss, {said} rank correlation with the gap" in text


def test_where_nothing_is_planted_nothing_is_claimed() -> None:
    said = evidence(rows(0.0))
    text = " ".join(findings(said))
    assert said.clear == []
    assert "none of 4 metrics follows the gap beyond doubt" in text
    assert "Given the training loss" not in text


def test_lambda_max_is_compared_between_networks_alike_but_for_the_rule() -> None:
    table = rows(1.0)
    base = {(row["lr"], row["seed"]): row["lambda_max"] for row in table if row["rule"] == "sgd"}
    own = [row for row in table if row["rule"] == "sam" and (row["lr"], row["seed"]) in base]
    lower = sum(row["lambda_max"] < base[row["lr"], row["seed"]] for row in own)
    assert any(f"(lower in {lower} of {len(own)} pairs)" in text for text in findings(evidence(table)))


def test_a_rule_that_shares_no_setting_with_the_baseline_is_not_compared() -> None:
    table = [{**row, "lr": row["lr"] + 10 * (row["rule"] == "sam")} for row in rows(1.0)]
    assert not [text for text in findings(evidence(table)) if "lambda max averages" in text or "nan" in text]


def test_limits_name_clusters_twins_choices_and_failures() -> None:
    table = rows(1.0)
    table[0]["lambda_max"] = float("nan")
    selection = nested_selection(table, ["trace", "renyi"], cluster=AXES[:-1])
    said = evidence(table, broken={"net_x": "train: the loss is nan"}, selections={"a pair": selection})
    text = " ".join(limits(said))
    assert "60 networks, 10 settings: the median interval of tau" in text
    assert "Not finite, and left out for that metric: lambda max on 1 of 60 networks." in text
    assert "Network net x failed and is in no number here: train: the loss is nan." in text
    assert "the variant was chosen by nested selection" in text
    assert "a pair: the variant chosen on half of the settings (trace 100% of the halvings)" in " ".join(findings(said))
    assert "Every order, layer and radius was fixed" in " ".join(limits(evidence(table)))


@pytest.mark.parametrize("twin", [True, False])
def test_a_metric_that_cannot_be_told_from_the_best_is_named(twin: bool) -> None:
    table = [{**row, "gradient_norm": row["trace"] ** 3} for row in rows(1.0)] if twin else rows(3.0)
    text = " ".join(limits(evidence(table)))
    assert ("that of trace, cannot be told from that of 1 other (gradient norm)" in text) == twin


@pytest.mark.parametrize(("seeds", "settings", "said", "unsaid"), [
    (6, 10, [], ["rough", "no interval", "No change of one setting"]),
    (6, 6, ["fewer than 8 settings are rough: they hold the truth in 88 % of tables"], ["no interval"]),
    (6, 2, ["Fewer than 3 settings have no interval."], ["are rough"]),
    (3, 10, ["No change of one setting has the 12 pairs"], ["are rough"]),
])  # fmt: skip
def test_what_few_settings_or_seeds_leave_open_is_said(
    seeds: int, settings: int, said: list[str], unsaid: list[str]
) -> None:
    table = [row for row in rows(1.0) if row["seed"] < seeds and (row["lr"], row["rule"]) < (settings // 2, "")]
    text = " ".join(limits(evidence(table)))
    assert all(part in text for part in said)
    assert not any(part in text for part in unsaid)
    assert "nan" not in text
    if settings < 3:
        assert evidence(table).clear == []  # nothing is claimed without an interval


def test_the_page_begins_with_what_is_left_given_the_training_loss() -> None:
    said = evidence(rows(1.0))
    trace, renyi = (said.correlations[name] for name in ("trace", "renyi"))
    first = findings(said)[0]
    assert "Where the training loss is held fixed by a partial rank correlation, 2 of 4 metrics" in first
    assert "which chance alone gives about 0 of them" in first
    assert (
        f"Rising with it: 1 (trace {trace.partial:+.2f} [{trace.partial_low:+.2f}, {trace.partial_high:+.2f}])" in first
    )
    assert f"Falling as it rises: 1 (renyi {renyi.partial:+.2f} [" in first
    sizes = [abs(said.correlations[name].partial) for name in said.order]
    assert sizes == sorted(sizes, reverse=True)
    assert [said.follows(own) for own in (trace, renyi, said.correlations["lambda_max"])] == [1, -1, 0]
    unknown = {**said.correlations, "renyi": replace(renyi, partial_low=nan, partial_high=nan)}
    assert "1 of 4 metrics" in findings(replace(said, correlations=unknown))[0]


def test_the_page_begins_with_what_follows_the_gap_at_one_training_loss() -> None:
    table = rows(1.0)
    said = replace(
        evidence(table, broken={"net_x": "train: the training loss must come down to 0.1, got 0.2"}), held=0.1
    )
    trace = said.correlations["trace"]
    first, *others = findings(said)
    losses = [row["train_loss"] for row in table]
    assert f"trained to one training loss (0.1; they reached {min(losses):.3f} to {max(losses):.3f}), 2 of 4" in first
    assert f"Rising with it: 1 (trace {trace.tau:+.2f} [{trace.low:+.2f}, {trace.high:+.2f}])" in first
    assert not [text for text in others if "metrics follow the gap (p below" in text]  # said once
    assert [abs(said.correlations[name].tau) for name in said.order] == sorted(
        (abs(own.tau) for own in said.correlations.values()), reverse=True
    )
    unlikely = {**said.correlations, "renyi": replace(said.correlations["renyi"], p_corrected=0.2)}
    assert "1 of 4 metrics" in findings(replace(said, correlations=unlikely))[0]
    text = " ".join(limits(said))
    assert "1 of 61 networks did not come down to the training loss within their epochs" in text
    assert "net x" not in text


def test_other_gaps_are_counted_by_the_same_criterion() -> None:
    said = evidence(rows(1.0))
    turned = {
        name: replace(own, partial=-own.partial, partial_low=-own.partial_high, partial_high=-own.partial_low)
        for name, own in said.correlations.items()
    }
    both = replace(said, in_error=said.correlations, noisy={"noisy_accuracy_gap": turned})
    assert findings(both)[1] == (
        "The same criterion with other gaps: in error 2 (2 the same way), "
        "in error to noisy test labels 2 (0 the same way)."
    )
    assert "noisy test labels" not in " ".join(findings(said))
