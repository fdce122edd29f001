from dataclasses import replace
from math import nan
from typing import Any

from planted import AXES, METRICS, evidence, rows

from landscape.report.answer import answer
from landscape.report.evidence import Evidence
from landscape.study import correlate


def with_loss(table: list[dict[str, Any]], **changes: Any) -> Evidence:
    names = [*METRICS, "train_loss"]
    found = correlate(table, names, axes=AXES, cluster=AXES[:-1], given="train_loss")
    return replace(evidence(table), correlations=found, **changes)


def test_the_answer_names_the_first_its_interval_and_the_training_loss() -> None:
    said = with_loss(rows(1.0))
    first, loss = said.correlations["trace"], said.correlations["train_loss"]
    text = answer(said)
    assert text.startswith(f"Counted plainly trace follows the gap most closely: Kendall's τ {first.tau:+.2f} [")
    assert f"[{first.low:+.2f}, {first.high:+.2f}]" in text
    assert f"but the training loss alone has {loss.tau:+.2f} [{loss.low:+.2f}, {loss.high:+.2f}]" in text
    assert f"held fixed 2 of 4 measures still follow it, trace most, {first.partial:+.2f} [" in text
    assert text.count(". ") == 0  # one sentence


def test_at_one_training_loss_the_others_that_follow_are_counted() -> None:
    text = answer(with_loss(rows(1.0), held=0.1))
    assert text.startswith("At one training loss trace follows the gap most closely: Kendall's τ ")
    assert text.endswith("and 1 of the other 3 measures follows it too.")
    said = with_loss(rows(1.0), held=0.1)
    alone = {**said.correlations, "renyi": replace(said.correlations["renyi"], p_corrected=0.2)}
    assert answer(replace(said, correlations=alone)).endswith("and none of the other 3 measures follow it too.")


def test_what_has_no_interval_stands_last() -> None:
    said = with_loss(rows(1.0))
    unknown = replace(said.correlations["trace"], partial_low=nan, partial_high=nan)
    assert said.order[0] == "trace"
    assert replace(said, correlations={**said.correlations, "trace": unknown}).order.index("trace") >= 3


def test_the_training_loss_is_never_the_answer() -> None:
    table = [{**row, "train_loss": row["generalization_gap"]} for row in rows(1.0)]  # it is the gap
    said = with_loss(table)
    assert said.best == "train_loss"
    assert answer(said).startswith("Counted plainly trace follows")
    assert "no measure's correlation with it can be told from 0" in answer(said)


def test_where_nothing_is_planted_the_answer_is_none() -> None:
    said = with_loss(rows(0.0))
    near = max(METRICS, key=lambda name: abs(said.correlations[name].tau))
    assert answer(said).startswith(
        f"None of 4 measures follows the gap beyond doubt: the nearest, {near.replace('_', ' ')},"
    )
    assert f"p = {said.correlations[near].p_corrected:.2g} after correction" in answer(said)


def test_without_an_interval_the_answer_says_so() -> None:
    said = with_loss([row for row in rows(1.0) if row["lr"] == 0])
    assert said.correlations["trace"].clusters == 2
    text = answer(said)
    assert "nan" not in text
    assert "(no interval) with the generalisation gap (chance is 0)" in text
