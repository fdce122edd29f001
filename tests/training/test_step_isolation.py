"""What a step leaves as it was: weights, buffers and random numbers, also where a pass fails."""

import gc
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from step_cases import closure_for, data, network, weights, wrapped
from torch import nn

from landscape.training.rules import Rule, friendly_sam, gsam, sam
from landscape.training.sharpness_aware.gradients import finite


def test_weights_come_back_to_the_bit_when_the_second_pass_raises():
    model = network(nn.BatchNorm1d(5))
    opt, before, calls = wrapped(model, sam(0.3)), weights(model), []
    inner = closure_for(model, opt, *data())

    def closure():
        calls.append(weights(model))
        loss = inner()
        if len(calls) == 2:
            raise KeyboardInterrupt
        return loss

    with pytest.raises(KeyboardInterrupt):
        opt.step(closure)
    assert not torch.equal(calls[1], before)  # it was displaced
    assert torch.equal(weights(model), before)
    assert model[1].num_batches_tracked == 1


def test_batch_norm_statistics_are_those_of_the_first_pass():
    model, plain = network(nn.BatchNorm1d(5)), network(nn.BatchNorm1d(5))
    opt = wrapped(model, sam(0.5), lr=0.0)
    for step in range(3):
        plain(data(step)[0])
        opt.step(closure_for(model, opt, *data(step)))
    for ours, expected in zip(model.buffers(), plain.buffers(), strict=True):
        assert torch.equal(ours, expected)
    assert model[1].momentum == 0.1
    assert model.training


def test_both_passes_see_the_same_random_numbers_and_leave_them_after_the_first():
    drawn = []

    def perturb(w, g, state):
        torch.rand(5)
        random.random()
        np.random.rand()
        return torch.ones_like(g), state

    model = network()
    opt = wrapped(model, Rule("mine", perturb))
    inner = closure_for(model, opt, *data())

    def closure():
        drawn.append((torch.rand(1).item(), random.random(), np.random.rand()))
        return inner()

    torch.manual_seed(1)
    opt.step(closure)
    opt.step(closure)
    torch.manual_seed(1)
    assert drawn[0] == drawn[1]
    assert drawn[2] == drawn[3]
    assert [drawn[0][0], drawn[2][0]] == [torch.rand(1).item(), torch.rand(1).item()]
    assert drawn[0][1] != drawn[2][1]


def test_a_second_pass_that_draws_more_leaves_no_trace():
    model, calls = network(), []
    opt = wrapped(model, sam(0.1))
    inner = closure_for(model, opt, *data())

    def closure():
        calls.append(1)
        torch.rand(len(calls))
        np.random.rand(len(calls) - 1)
        return inner()

    torch.manual_seed(1)
    numpy = np.random.get_state()[2]
    opt.step(closure)
    after = torch.rand(1)
    assert np.random.get_state()[2] == numpy
    torch.manual_seed(1)
    torch.rand(1)
    assert torch.equal(after, torch.rand(1))


def test_dropout_has_one_mask_a_step():
    masks = []
    model = network(nn.Dropout(0.5))
    model[1].register_forward_hook(lambda _m, _x, output: masks.append(output == 0))
    opt = wrapped(model, sam(0.1))
    for step in range(2):
        opt.step(closure_for(model, opt, *data(step)))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


@pytest.mark.parametrize("bad_pass", [1, 2])
def test_a_gradient_that_is_not_finite_skips_the_step_and_warns_once(bad_pass):
    model, calls = network(), []
    opt = wrapped(model, friendly_sam(0.3))
    good = closure_for(model, opt, *data())
    before = weights(model)

    def closure():
        calls.append(1)
        loss = good()
        if len(calls) == bad_pass:
            model[0].weight.grad[0, 0] = float("inf")
        return loss

    with pytest.warns(UserWarning, match=f"pass {bad_pass} is not finite"):
        opt.step(closure)
    assert torch.equal(weights(model), before)
    assert not opt.state
    assert opt.rule_state is None
    calls.clear()
    opt.step(closure)  # a second warning would be an error
    assert torch.equal(weights(model), before)
    opt.step(good)
    assert not torch.equal(weights(model), before)


def test_a_mixup_that_the_closure_draws_is_the_same_in_both_passes():
    model, seen = network(), []
    opt = wrapped(model, sam(0.3))
    x, y = data()

    def closure():
        opt.zero_grad()
        share, order = torch.rand(()), torch.randperm(len(y))
        mixed = share * x + (1 - share) * x[order]
        targets = share * F.one_hot(y, 3).double() + (1 - share) * F.one_hot(y[order], 3)
        seen.append((mixed, targets))
        F.cross_entropy(model(mixed), targets, label_smoothing=0.1).backward()

    opt.step(closure)
    opt.step(closure)
    assert all(torch.equal(a, b) for a, b in zip(seen[0], seen[1], strict=True))
    assert not torch.equal(seen[0][0], seen[2][0])


@pytest.mark.parametrize("value", [0.0, 1e308, float("inf"), -float("inf"), float("nan")])
@pytest.mark.parametrize("place", [0, 3, 6])
def test_what_is_finite(value, place):
    v = torch.linspace(-1.7e308, 1.7e308, 7, dtype=torch.float64)
    v[place] = value
    assert finite(v) == v.isfinite().all()


def vectors(size):
    """How many vectors (size,) the tensors hold that are alive."""
    tensors = [thing for thing in gc.get_objects() if type(thing) is torch.Tensor and thing.numel() >= size]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values()) // (8 * size)


@pytest.mark.parametrize(("rule", "copies"), [(sam(0.3), 1), (gsam(0.3), 2)], ids=["sam", "gsam"])
@pytest.mark.parametrize("form", ["closure", "two calls", "parts"])
def test_what_is_kept_in_memory_through_pass_2(rule, copies, form):
    gc.collect()  # what other tests have left in cycles must not go while this one counts
    model, held = nn.Linear(99, 100, dtype=torch.float64), []
    opt = wrapped(model, rule)

    def closure():
        held.append(vectors(10000))
        opt.zero_grad()
        model(torch.ones(1, 99, dtype=torch.float64)).square().sum().backward()

    if form == "two calls":
        closure()
        opt.first_step()
        closure()
        opt.second_step()
    else:
        opt.step([closure, closure] if form == "parts" else closure)
    more = [count - held[0] for count in held]
    assert more == ([0, 2, 2, 4] if form == "parts" else [0, copies])
