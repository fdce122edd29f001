"""A whole analysis: killed and gone on with, within a budget, and of a problem that not every metric applies to."""

import json

import pytest
import torch
from cases import make, normal
from torch import nn
from torch.nn import functional as F

from landscape.metrics import METRICS
from landscape.metrics import analyze as run
from landscape.metrics.analyze import analyze
from landscape.metrics.metric import Metric
from landscape.metrics.shared_computation import SharedComputation
from landscape.problem import Problem

SOME = ["lambda_max", "average_gap", "surrogate_gap"]  # the cheapest is the last


class Interrupted:
    """Cross entropy that the user stops at a call, and that counts its calls."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.calls = at, 0

    def __call__(self, outputs, targets):
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt
        return F.cross_entropy(outputs, targets)


def problem(criterion=F.cross_entropy, seed: int = 0) -> Problem:
    case = make("mlp")
    with torch.no_grad():
        case.model[0].weight.add_(0.1 * seed)
    return Problem(case.model, criterion, case.batches)


def values(found) -> dict[str, float]:
    return {name: estimate.value.item() for name, estimate in found.items()}


@pytest.mark.parametrize("at", [20, 32])  # in average_gap, in lambda_max
def test_a_killed_analysis_goes_on_and_ends_with_the_same_numbers(tmp_path, at):
    whole = analyze(problem(), SOME, progress=False)
    path = tmp_path / "kept.jsonl"
    with pytest.raises(KeyboardInterrupt):
        analyze(problem(Interrupted(at)), SOME, resume=path)
    with path.open("a") as file:
        file.write('["lambda_max", {"val')  # cut short
    assert values(analyze(problem(), SOME, resume=path)) == values(whole)
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_what_is_kept_is_not_done_again(tmp_path):
    path, counted = tmp_path / "kept.jsonl", Interrupted()
    first = analyze(problem(), SOME, resume=path)
    again = analyze(problem(counted), [*SOME, "gradient_norm"], resume=path)
    assert counted.calls == 2 * 3  # two batches: the log's loss, and two gradients
    assert {name: again[name].gradient_times for name in SOME} == {name: first[name].gradient_times for name in SOME}
    assert again.shared["leading eigenpairs"] == first.shared["leading eigenpairs"]
    assert again["lambda_max"].details == first["lambda_max"].details
    assert again["lambda_max"].value.dtype == torch.float64
    nothing = Interrupted()
    analyze(problem(nothing), SOME, resume=path)
    assert nothing.calls == 2


def test_a_log_of_other_work_is_refused_in_one_line(tmp_path):
    path = tmp_path / "kept.jsonl"
    analyze(problem(), ["gradient_norm"], resume=path)
    with pytest.raises(ValueError, match=r"kept.jsonl was written with other weights; delete it or name another$"):
        analyze(problem(seed=1), ["gradient_norm"], resume=path)
    with pytest.raises(ValueError, match="other data;"):
        analyze(problem().with_data(problem().data[:1]), ["gradient_norm"], resume=path)
    with pytest.raises(ValueError, match="other settings;"):
        analyze(problem(), ["gradient_norm"], settings={"trace": {"matvecs": 8}}, resume=path)
    with pytest.raises(ValueError, match="other seed;"):
        analyze(problem(), ["gradient_norm"], generator=torch.Generator().manual_seed(1), resume=path)
    with pytest.raises(ValueError, match="other data or criterion;"):
        analyze(problem(lambda z, t: 2 * F.cross_entropy(z, t)), ["gradient_norm"], resume=path)


def test_a_budget_takes_the_cheapest_and_names_what_it_leaves_out(monkeypatch):
    whole = analyze(problem(), [*SOME, "gradient_norm"], budget=1e6)
    assert list(whole) == [*SOME, "gradient_norm"]
    assert whole.left_out == {}
    monkeypatch.setattr(run, "_pace", lambda work, _shared: 1.0 if work.shared("origin") else 0.0)
    found = analyze(problem(), [*SOME, "gradient_norm"], budget=3.0)  # seconds, at one a gradient
    assert list(found) == ["surrogate_gap", "gradient_norm"]  # 1/3 and 0, but 4 and 47
    assert list(found.left_out) == ["average_gap", "lambda_max"]
    assert found.left_out["lambda_max"].startswith("about 21-103 gradient-times, 47 s; ")
    assert values(found) == {name: whole[name].value.item() for name in found}
    with pytest.raises(ValueError, match="budget must be positive and finite, got 0"):
        analyze(problem(), SOME, budget=0)


def test_the_cost_is_stated_before_it_begins():
    said = []
    found = analyze(problem(), SOME, say=said.append)
    assert len(said) == 1
    assert said[0].startswith("about 25-107 gradient-times of ")
    assert said[0].endswith("surrogate_gap 0, average_gap 4, lambda_max 21-103")  # of 51 weights
    assert list(found) == SOME


def test_the_cost_of_an_ascent_is_stated_as_a_range():
    said = []
    found = analyze(problem(), ["worst_case_gap", "surrogate_gap"], say=said.append)
    assert said[0].startswith("about 2-201 gradient-times of ")
    assert said[0].endswith("s in all: surrogate_gap 0, worst_case_gap 1-200")
    assert 4 <= found["worst_case_gap"].gradient_times <= 200


def test_the_whole_set_is_affordable():
    work = SharedComputation(problem(), METRICS, {}, 0, lambda _what, _spent: None)
    costs = work.expected_together(list(METRICS))
    about = [cost.middle for cost in costs.values()]
    assert sum(about) <= 460
    assert about != sorted(about)  # shared work is in the first that needs it, and once
    alone = [work.expected(name).middle for name in costs]
    assert alone == sorted(alone)


def test_metrics_that_do_not_apply_are_left_out_unless_no_other_is_asked_for():
    small = Problem(nn.Linear(3, 1).double(), nn.MSELoss(), (normal(8, 3), normal(8, 1, seed=1)))
    found = analyze(small, progress=False)
    assert list(found) == [name for name in METRICS if name not in found.left_out]
    assert found.left_out == {
        "lambda_max_over_lambda_5": "the number of parameters must be an integer at least 5, got 4"
    }
    named = analyze(small, ["gradient_norm", "lambda_max_over_lambda_5"], progress=False)
    assert (list(named), list(named.left_out)) == (["gradient_norm"], ["lambda_max_over_lambda_5"])
    with pytest.raises(KeyError, match="lambda_max_over_lambda_5 was left out: the number of parameters must be"):
        named["lambda_max_over_lambda_5"]
    with pytest.raises(ValueError, match="the number of parameters must be"):
        analyze(small, ["lambda_max_over_lambda_5"])
    with pytest.raises(ValueError, match="the loss is nan"):
        analyze(problem(lambda z, t: F.cross_entropy(z, t) * torch.nan))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("derivative for aten::x is not implemented\n at line 3"), "RuntimeError: derivative for aten::x"),
        (torch.OutOfMemoryError("CUDA out of memory"), "OutOfMemoryError: CUDA out of memory"),
        (KeyError("logits"), "KeyError: 'logits'"),
        (AssertionError(), "AssertionError"),
        (ValueError("expected outputs (n, C)"), "expected outputs (n, C)"),
    ],
)
def test_whatever_one_metric_raises_the_others_are_there(monkeypatch, tmp_path, error, said):
    def failing(problem, *, generator=None):
        raise error

    monkeypatch.setitem(METRICS, "failing", Metric(failing))
    asked, file = ["failing", *SOME], tmp_path / "kept.jsonl"
    found = analyze(problem(), asked, resume=file, progress=False)
    alone = analyze(problem(), SOME, progress=False)
    assert list(found) == SOME
    assert all(torch.equal(found[name].value, alone[name].value) for name in SOME)
    assert list(found.left_out) == ["failing"]
    assert found.left_out["failing"].startswith(said)
    assert "\n" not in found.left_out["failing"]
    assert f"left out failing: {said}" in str(found)
    again = analyze(problem(), asked, resume=file, progress=False)  # tried again, the others are kept
    assert all(again[name].seconds == found[name].seconds for name in SOME)
    with pytest.raises(type(error)):
        analyze(problem(), ["failing"], progress=False)


def test_shared_work_that_fails_leaves_out_all_that_need_it():
    def ctc(z, t):
        return F.ctc_loss(z.log_softmax(2).transpose(0, 1), t, torch.full((4,), 12), torch.full((4,), 3))

    speech = Problem(nn.Linear(4, 6), ctc, [(normal(4, 12, 4).float(), torch.ones(4, 3, dtype=torch.long))])
    found = analyze(speech, ["gradient_norm", "trace", "eigenvector_alignment", "weight_norm"], progress=False)
    assert found["gradient_norm"].value.item() == pytest.approx(float(speech.gradient().norm()), rel=1e-5)
    assert found["weight_norm"].value.item() == pytest.approx(float(speech.vector().norm()), rel=1e-5)


def test_a_loss_without_a_gradient_leaves_what_needs_none():
    def opaque(z, t):
        raise_in_backward = z * 1.0
        if z.requires_grad:
            raise_in_backward.register_hook(lambda g: g.nope)
        return F.cross_entropy(raise_in_backward, t)

    found = analyze(problem(opaque), ["weight_norm", "average_gap", "gradient_norm"], progress=False)
    assert list(found) == ["weight_norm", "average_gap"]
    assert found.left_out["gradient_norm"].startswith("AttributeError: ")


def test_an_empty_list_is_refused():
    with pytest.raises(ValueError, match=r"metrics must name at least one of gradient_norm, .*; got none"):
        analyze(problem(), [])
