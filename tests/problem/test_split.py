from collections import UserDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from cases import normal, seeded
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from landscape.curvature import fisher, ggn, hessian
from landscape.metrics import m_sharpness
from landscape.problem import Problem
from landscape.slices import check_slice, random_directions, slice_1d, slice_2d

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


def test_what_is_computed_from_batches_taken_apart_takes_them_apart_once():
    """Denoising: noisy and clean samples can be told apart by their order alone."""
    clean, noise = normal(8, 3), normal(8, 3, seed=1)
    pairs, items = [(clean + noise, clean)], [(clean, clean + noise)]
    net = nn.Linear(3, 3).double()
    expected = Problem(net, F.mse_loss, pairs)
    problem = Problem(net, F.mse_loss, items, split=lambda item: (item[1], item[0]))
    direction = normal(problem.size, seed=4)
    for call in (
        lambda p: slice_1d(p, direction, (-1, 1, 3), progress=False).loss["train"],
        lambda p: slice_1d(p, direction, (-1, 1, 3), {"eval": p.data}, subset=5, progress=False).loss["eval"],
        lambda p: m_sharpness(p, m=2, rho=0.1).value,
    ):
        torch.testing.assert_close(call(problem), call(expected), rtol=1e-12, atol=0)


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
        ({"input_ids": IDS}, r'batch 0: .* got dict of input_ids without "labels"; say how .* split='),
        ((IDS,), r"batch 0: expected \(inputs, targets\), got \(\(11, 3\) int64\); say how .* split="),
        (IDS, r"batch 0: expected \(inputs, targets\), got \(11, 3\) int64; say how .* split="),
        (7, r"batch 0: expected \(inputs, targets\), got int; say how .* split="),
        ((IDS.numpy(), LABELS.numpy()), r"batch 0: expected tensors, got \(ndarray, ndarray\); pass torch.from_numpy"),
    ],
)
def test_items_of_another_form_are_named(item, message):
    with pytest.raises(ValueError, match=message):  # of a list, where nothing has to be read for it
        Problem(language(), F.cross_entropy, [item])
    read = []

    class Reading:
        def __iter__(self):
            read.append(1)
            return iter([item])

    problem = Problem(language(), F.cross_entropy, Reading())
    assert not read
    for call in (Problem.loss, Problem.gradient, lambda p: hessian(p) @ p.vector()):
        with pytest.raises(ValueError, match=message):
            call(problem)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"input_ids": IDS}, 'got dict of input_ids without "labels"; .*split='),
        ({"train": mappings(), "test": mappings()}, "got dict of train, test without .*; pass the data of one split"),
        ((DataLoader(IDS), DataLoader(IDS)), r"of one split, got two, \(DataLoader, DataLoader\); .* data="),
        ("train.csv", "got str; pass a DataLoader or a list"),
        (iter(pairs()), "got list_iterator; pass a DataLoader or a list"),
    ],
)
def test_data_that_is_no_iterable_of_batches_is_named(data, message):
    for call in (lambda: Problem(language(), F.cross_entropy, data), lambda: by_hand().with_data(data)):
        with pytest.raises(ValueError, match=message):
            call()


def test_targets_that_cannot_be_counted_are_named():
    with pytest.raises(ValueError, match=r"targets must have a length .* got dict; pass weight="):
        Problem(language(), F.cross_entropy, [(IDS, {"labels": LABELS})]).loss()
    samples = DataLoader(TensorDataset(IDS, LABELS), batch_size=None)
    with pytest.raises(ValueError, match=r"got \(\) int64; batch the samples \(batch_size=\), or pass weight="):
        Problem(language(), F.cross_entropy, samples).loss()


def test_several_tensors_are_one_batch():
    expected = by_hand().with_data([((IDS, MASK), LABELS)])
    for data in ((IDS, MASK, LABELS), [IDS, MASK, LABELS], ((IDS, MASK), LABELS), [(IDS, MASK), LABELS]):
        assert_same_function(Problem(language("tensor"), F.cross_entropy, data), expected)


def test_tuples_of_inputs_go_to_a_model_that_asks_for_several():
    samples = [((ids, mask), label) for ids, mask, label in zip(IDS, MASK, LABELS, strict=True)]
    for data in (pairs(), DataLoader(samples, batch_size=5)):
        assert_same_function(Problem(language("tensor"), F.cross_entropy, data), by_hand())


class OfOneTuple(Language):
    def forward(self, both, scale=1.0):
        return super().forward(*both)


def test_a_tuple_stays_one_where_the_model_takes_one():
    net = OfOneTuple("tensor").double()
    net.load_state_dict(language().state_dict())
    assert_same_function(Problem(net, F.cross_entropy, pairs()), by_hand())


@pytest.mark.parametrize("label", ["label", "label_ids"])
def test_other_names_of_labels(label):
    data = [{(label if name == "labels" else name): part for name, part in item.items()} for item in mappings()]
    assert_same_function(Problem(language(), F.cross_entropy, data), by_hand())


def test_pairs_of_a_mapping_and_labels():
    data = [({"input_ids": ids, "attention_mask": mask}, labels) for ids, mask, labels in tuples()]
    assert_same_function(Problem(language(), F.cross_entropy, data), by_hand())


def test_names_that_forward_lacks_are_named():
    data = [{**item, "idx": torch.arange(len(item["labels"]))} for item in mappings()]
    with pytest.raises(
        ValueError, match="those of forward, input_ids, attention_mask, got idx besides; leave them out"
    ):
        Problem(language(), F.cross_entropy, data).loss()


@pytest.mark.parametrize(("answer", "data"), [("logits", mappings()), ("tensor", tuples()), ("tensor", pairs())])
def test_a_plane_is_checked_in_every_form(answer, data):
    problem = Problem(language(answer), F.cross_entropy, data)
    d1, d2 = random_directions(problem)
    plane = slice_2d(problem, d1, d2, (-1, 1, 3), (-1, 1, 3), progress=False)
    found = {finding.name: finding.ok for finding in check_slice(problem, plane, d1, d2).findings}
    assert found["centre"]
    assert found["again"]


def test_slices_take_every_form():
    problem = by_hand()
    direction = normal(problem.size, seed=4)
    expected = slice_1d(problem, direction, (-1, 1, 3), {"train": pairs()}, progress=False)
    for answer, data in (("logits", mappings()), ("tensor", tuples()), ("tensor", pairs())):
        own = Problem(language(answer), F.cross_entropy, data)
        found = slice_1d(own, direction, (-1, 1, 3), {"train": data, "eval": data}, progress=False)
        for name in ("train", "eval"):
            torch.testing.assert_close(found.loss[name], expected.loss["train"], rtol=1e-14, atol=0)
            assert torch.equal(found.accuracy[name], expected.accuracy["train"])
