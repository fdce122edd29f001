"""Data that are others at each pass are refused; what was only drawn anew is the same again."""

import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from landscape import Problem, hessian
from landscape.problem.same_batches import checksum

X, Y = torch.randn(24, 4, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 3
LINE = "^data must give the same batches at every pass, got "


class Stream(IterableDataset):
    """Batches of four, as many as `length` of this pass, in the order that `order` gives."""

    def __init__(self, order, length=lambda _: 6):
        self.order, self.length, self.passes = order, length, 0

    def __iter__(self):
        self.passes += 1
        order = self.order(self.passes)
        return iter(
            [(X[order][4 * i : 4 * i + 4], Y[order][4 * i : 4 * i + 4]) for i in range(self.length(self.passes))]
        )


def of(data, **settings):
    return Problem(nn.Linear(4, 3), F.cross_entropy, data, **settings)


def by_epoch(number):
    return torch.randperm(24, generator=torch.Generator().manual_seed(number))


def swapped_at_the_end(number):
    order = torch.arange(24)
    order[[20, 16]] = order[[16, 20]] if number > 1 else order[[20, 16]]
    return order


@pytest.mark.parametrize(("order", "batch"), [(by_epoch, 0), (swapped_at_the_end, 4)])
def test_a_stream_that_shuffles_at_each_pass_is_refused_at_the_first_other_batch(order, batch):
    problem = of(Stream(order))
    problem.loss()
    with pytest.raises(
        ValueError, match=f"{LINE}another batch {batch}; keep them by problem.with_batches_kept"
    ) as error:
        problem.gradient()
    assert "\n" not in str(error.value)
    kept = of(Stream(order)).with_batches_kept()
    assert torch.equal(kept.loss(), kept.loss())


def test_a_stream_that_shuffles_by_a_fixed_seed_or_by_the_global_generators_is_read_alike():
    for order in (lambda _: by_epoch(3), lambda _: torch.randperm(24)):
        problem = of(Stream(order))
        assert torch.equal(problem.loss(), problem.loss())
        assert problem.reader.data.passes == 2


class Rows(IterableDataset):
    """Rows by name, shuffled in a buffer by a seed and the epoch, as streams of Hugging Face's are."""

    def __init__(self, seed=0, buffer=5):
        self.seed, self.buffer, self.epoch, self.given = seed, buffer, 0, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        source, held = random.Random(self.seed + self.epoch), []
        for x, y in zip(X, Y, strict=True):
            self.given += 1
            held.append({"input": x, "labels": y})
            if len(held) == self.buffer:
                yield held.pop(source.randrange(self.buffer))
        yield from held


def test_a_stream_shuffled_in_a_buffer_is_read_once_a_pass_and_refused_in_another_epoch():
    rows = Rows()
    problem = of(DataLoader(rows, batch_size=4))
    H, v = hessian(problem, memory=100), problem.vector()
    found = [H @ v, H @ v, problem.loss(), problem.loss()]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[2], found[3])
    assert rows.given == 4 * len(X)
    rows.set_epoch(1)
    with pytest.raises(ValueError, match=f"{LINE}another batch 0;"):
        problem.loss()


@pytest.mark.parametrize(("lengths", "said"), [((6, 5), "5 of 6;"), ((5, 6), "another batch 5;")])
def test_a_pass_that_is_shorter_or_longer_is_refused(lengths, said):
    problem = of(Stream(lambda _: torch.arange(24), lambda number: lengths[min(number, 2) - 1]))
    problem.loss()
    with pytest.raises(ValueError, match=f"{LINE}{said}"):
        problem.loss()


def test_a_loader_whose_generator_has_moved_on_gives_the_first_order_and_leaves_the_generator_there():
    source = torch.Generator().manual_seed(1)
    loader = DataLoader(TensorDataset(X, Y), batch_size=5, shuffle=True, generator=source)
    problem = of(loader)
    first = problem.loss()
    list(loader)  # an epoch of a training
    moved = source.get_state()
    assert torch.equal(problem.loss(), first)
    problem.extent, problem.batches_with_units(), problem.with_batches_kept()
    assert torch.equal(source.get_state(), moved)


def test_a_checksum_tells_values_places_and_tensors_apart():
    x = torch.arange(24.0).reshape(2, 3, 4)
    nan = torch.tensor([float("nan"), 1.0])
    same = [(x, x.clone()), ({"a": x}, {"a": x.clone()}), (nan, nan.clone())]
    other = [(x, x + 1), (x, x.flip(0)), ((x, nan), (nan, x)), (x.bfloat16(), -x.bfloat16())]
    assert all(checksum(one) == checksum(two) for one, two in same)
    assert all(checksum(one) != checksum(two) for one, two in other)
    assert checksum(x.to_sparse()) == 0  # told by what is dense beside it
