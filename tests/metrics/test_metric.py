"""Records of metrics: one's own, and what they refuse."""

import pytest
import torch
from cases import make

import landscape as ls
from landscape.metrics import METRICS, Metric, lambda_max
from landscape.metrics.analyze import analyze

OWN = """
import torch
from landscape.storage.results import Estimate

def handed(problem, *, times: float = 1.0, origin: tuple[torch.Tensor, torch.Tensor] | None = None,
           pac_bayes_sam: Estimate | None = None, generator: torch.Generator | None = None) -> Estimate:
    return Estimate.exact(float("nan") if None in (origin, pac_bayes_sam) else times * origin[1].norm())
"""


@pytest.mark.parametrize("first", ["", "from __future__ import annotations"])
def test_ones_own_metric_is_given_what_it_says_that_it_needs(monkeypatch, first):
    names: dict[str, object] = {}
    exec(first + OWN, names)  # a file of its own, whose annotations may be strings
    handed = Metric(names["handed"], {"times": 2.0}, cost=0.0, needs=("origin", "pac_bayes_sam"))
    problem = make("mlp").problem()
    expected = 2 * problem.gradient().norm()
    by_argument = analyze(problem, {"handed": handed, "weight_norm": METRICS["weight_norm"]}, progress=False)
    assert list(by_argument) == ["handed", "weight_norm"]
    monkeypatch.setitem(METRICS, "handed", handed)
    for found in (by_argument, analyze(problem, ["handed"], progress=False)):
        torch.testing.assert_close(found["handed"].value, expected.double())
        assert found["handed"].gradient_times == 0
        assert {"loss and gradient", "worst_case_gap", "pac_bayes_sam"} <= set(found.shared)


def test_a_record_is_called_like_its_function_at_its_settings_or_others():
    problem = make("mlp").problem()
    record = Metric(lambda problem, *, a=1.0, generator=None: ls.Estimate.exact(a * problem.loss()), {"a": 2.0})
    loss = problem.loss().double()
    for metric, times in ((record, 2.0), (record.at(a=3.0), 3.0)):
        found = metric(problem)
        torch.testing.assert_close(found.value, times * loss)
        assert found.gradient_times == pytest.approx(1 / 3)
        assert found.data == "64 units in 2 batches"
    torch.testing.assert_close(record(problem, a=5.0).value, 5 * loss)


def test_what_a_record_cannot_be_is_said_in_one_line(monkeypatch):
    with pytest.raises(
        ValueError, match=r"settings and needs; lambda_max: got an unexpected keyword argument 'origin'$"
    ):
        Metric(lambda_max, needs=("origin",))
    with pytest.raises(ValueError, match=r"<lambda>: got an unexpected keyword argument 'generator'$"):
        Metric(lambda problem: ls.Estimate.exact(problem.loss()))
    problem = make("mlp").problem()
    with pytest.raises(ValueError, match=r"^metrics must name at least one of"):
        analyze(problem, {})
    with pytest.raises(ValueError, match=r"^metric mine may need origin, pairs, density, gradient_norm, .*; got a$"):
        analyze(problem, {"mine": Metric(lambda problem, *, a=None, generator=None: a, needs=("a",))})
    monkeypatch.setitem(METRICS, "mine", lambda_max)
    with pytest.raises(ValueError, match=r"^metric mine must be a record, got function; write Metric\(function\)$"):
        analyze(problem, ["mine"])
