from collections import UserDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from cases import normal, seeded
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from landscape.curvature import fisher, ggn, hessian
from landscape.problem import Problem

SIZES = (5, 5, 1)
IDS, MASK = torch.randint(6, (11, 3), generator=seeded(1)), torch.randint(2, (11, 3), generator=seeded(2))
LABELS = torch.randint(3, (11,), generator=seeded(3))


@dataclass
class Output:
    """As Hugging Face's models answer."""

    logits: torch.Tensor
    hidden: torch.Tensor


class Language(nn.Module):
    def __init__(self, answer="logits"):
        super().__init__()
        self.embed, self.head, self.answer = nn.Embedding(6, 4), nn.Linear(4, 3), answer

    def forward(self, input_ids, attention_mask):
        hidden = torch.tanh(self.embed(input_ids) * attention_mask[..., None]).sum(1)
        return Output(self.head(hidden), hidden) if self.answer == "logits" else self.head(hidden)


def language(answer="logits"):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Language(answer).double()


def mappings(kind=dict):
    columns = zip(*(part.split(SIZES) for part in (IDS, MASK, LABELS)), strict=True)
    return [kind({"input_ids": ids, "attention_mask": mask, "labels": labels}) for ids, mask, labels in columns]


def tuples(kind=tuple):
    return [kind(parts) for parts in zip(*(part.split(SIZES) for part in (IDS, MASK, LABELS)), strict=True)]


def pairs():
    return [((ids, mask), labels) for ids, mask, labels in tuples()]


def by_hand():
    """The same function, told how to call the model."""
    return Problem(language(), F.cross_entropy, pairs(), forward=lambda m, x: m(*x).logits)


def assert_same_function(problem, expected, rtol=1e-14):
    v = normal(problem.size, seed=4)
    assert problem.extent.units == expected.extent.units
    for call in (
        Problem.loss,
        Problem.gradient,
        Problem.outputs,
        lambda p: hessian(p, verify=False) @ v,
        lambda p: ggn(p) @ v,  # verified, as by default
        lambda p: fisher(p, "empirical", verify=False) @ v,
        lambda p: hessian(p, micro_batch=3, verify=False) @ v,
    ):
        torch.testing.assert_close(call(problem), call(expected), rtol=rtol, atol=1e-15)


def batch_encoding(fields):
    return pytest.importorskip("transformers").BatchEncoding(fields)


@pytest.mark.parametrize(
    ("kind", "answer"), [(dict, "logits"), (dict, "tensor"), (UserDict, "logits"), (batch_encoding, "logits")]
)
def test_a_mapping_is_taken_by_name(kind, answer):
    assert_same_function(Problem(language(answer), F.cross_entropy, mappings(kind)), by_hand())


def test_a_single_mapping_is_one_batch():
    whole = {"input_ids": IDS, "attention_mask": MASK, "labels": LABELS}
    expected = by_hand().with_data([((IDS, MASK), LABELS)])
    for kind in (dict, UserDict):
        assert_same_function(Problem(language(), F.cross_entropy, kind(whole)), expected)


@pytest.mark.parametrize("container", [list, tuple])
def test_two_mappings_are_two_batches(container):
    expected = by_hand().with_data(pairs()[:2])
    assert_same_function(Problem(language(), F.cross_entropy, container(mappings()[:2])), expected)


@pytest.mark.parametrize("container", [list, tuple])
def test_two_longer_tuples_are_two_batches(container):
    expected = by_hand().with_data(pairs()[:2])
    for kind in (tuple, list):
        assert_same_function(Problem(language("tensor"), F.cross_entropy, container(tuples(kind)[:2])), expected)


Triple = namedtuple("Triple", ["ids", "mask", "labels"])


@pytest.mark.parametrize("kind", [tuple, list, lambda parts: Triple(*parts)])
def test_the_last_of_a_longer_tuple_is_the_targets(kind):
    assert_same_function(Problem(language("tensor"), F.cross_entropy, tuples(kind)), by_hand())


def test_loaders():
    samples = [
        {"input_ids": ids, "attention_mask": mask, "labels": label}
        for ids, mask, label in zip(IDS, MASK, LABELS, strict=True)
    ]
    expected = by_hand()
    of_mappings = DataLoader(samples, batch_size=5)
    assert_same_function(Problem(language(), F.cross_entropy, of_mappings), expected)
    of_tuples = DataLoader(TensorDataset(IDS, MASK, LABELS), batch_size=5)
    assert_same_function(Problem(language("tensor"), F.cross_entropy, of_tuples), expected)
    shuffled = DataLoader(samples, batch_size=4, shuffle=True, generator=seeded(5))
    problem = Problem(language(), F.cross_entropy, shuffled)
    torch.testing.assert_close(problem.gradient(), expected.gradient(), rtol=1e-12, atol=1e-15)


def test_split_says_how_an_item_is_taken_apart():
    data = [{"x": ids, "seen": mask, "y": labels, "name": "unused"} for ids, mask, labels in tuples()]
    problem = Problem(
        language(),
        F.cross_entropy,
        data,
        split=lambda item: ({"input_ids": item["x"], "attention_mask": item["seen"]}, item["y"]),
        forward=lambda model, inputs: model(**inputs).logits,
    )
    assert_same_function(problem, by_hand())
    swapped = [(labels, ids, mask) for ids, mask, labels in tuples()]
    problem = Problem(
        language(),
        F.cross_entropy,
        swapped,
        split=lambda item: (item[1:], item[0]),
        forward=lambda m, x: m(*x).logits,
    )
    assert_same_function(problem, by_hand())


def test_a_forward_of_ones_own_sees_the_mapping_without_its_labels():
    seen = []

    def forward(model, inputs):
        seen.append(set(inputs))
        return model(inputs["input_ids"], inputs["attention_mask"]).logits

    assert_same_function(Problem(language(), F.cross_entropy, mappings(), forward=forward), by_hand())
    assert seen[0] == {"input_ids", "attention_mask"}


def test_a_criterion_and_a_weight_see_the_labels():
    seen = []

    def weight(inputs, targets):
        seen.append((sorted(inputs), targets.shape))
        return len(targets)

    problem = Problem(language(), F.cross_entropy, mappings(), weight=weight)
    torch.testing.assert_close(problem.loss(), by_hand().loss(), rtol=1e-14, atol=0)
    assert seen[0] == (["attention_mask", "input_ids"], (5,))


def test_precision_reaches_the_parts_of_a_mapping():
    class Scores(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, values, extra):
            return self.head(values) + extra["shift"]

    net, dtype = Scores(), torch.float64
    values, shift = normal(6, 4, dtype=torch.float32), normal(6, 1, seed=1, dtype=torch.float32)
    data = [{"values": values, "extra": {"shift": shift}, "labels": torch.arange(6) % 3}]
    found = Problem(net, F.cross_entropy, data, dtype=dtype).gradient()
    net.double()
    data = [{"values": values.double(), "extra": {"shift": shift.double()}, "labels": torch.arange(6) % 3}]
    torch.testing.assert_close(found, Problem(net, F.cross_entropy, data).gradient(), rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"input_ids": IDS}, r"batch 0: expected \(inputs, targets\), got dict; say how to take it apart by split="),
        ((IDS,), r"batch 0: expected \(inputs, targets\), got \(\(11, 3\) int64\); say how .* split="),
        (IDS, r"batch 0: expected \(inputs, targets\), got \(11, 3\) int64; say how .* split="),
        (7, r"batch 0: expected \(inputs, targets\), got int; say how .* split="),
    ],
)
def test_items_of_another_form_are_named(item, message):
    problem = Problem(language(), F.cross_entropy, [item])
    for call in (Problem.loss, Problem.gradient, lambda p: hessian(p) @ p.vector()):
        with pytest.raises(ValueError, match=message):
            call(problem)


def test_data_that_is_no_iterable_of_batches_is_named():
    with pytest.raises(ValueError, match=r"data must be .* got dict; pass a DataLoader or a list"):
        Problem(language(), F.cross_entropy, {"input_ids": IDS})
    with pytest.raises(ValueError, match=r"targets must have a length .* got dict; pass weight="):
        Problem(language(), F.cross_entropy, [(IDS, {"labels": LABELS})]).loss()
