"""The two-call form against step(closure), and what happens between the calls."""

import pytest
import torch
import torch.nn.functional as F
from step_cases import data, more_pass_rules, network, two_pass_rules, weights, wrapped
from torch import nn

from landscape.side_effects import random_state
from landscape.training.rules import gsam, looksam, rsam, sam
from landscape.training.sharpness_aware.step import SharpnessAware


def backward(model, step=0):
    x, y = data(step)
    F.cross_entropy(model(x), y).backward()


def pair(rule):
    """Two networks with equal weights and 53 parameters, a step for each."""
    models = [network(nn.BatchNorm1d(5)) for _ in range(2)]
    return [(model, wrapped(model, rule)) for model in models]


def buffers(model):
    return [b.clone() for b in model.buffers()]


def whole(model, opt, step):
    def closure():
        opt.zero_grad()
        backward(model, step)

    opt.step(closure)


def in_two_calls(model, opt, step):
    opt.zero_grad()
    backward(model, step)
    opt.first_step()
    backward(model, step)
    opt.second_step()


@pytest.mark.parametrize("name", two_pass_rules(0.3))
def test_two_calls_are_step_with_a_closure_to_the_bit(name):
    (one, opt), (two, calls) = pair(two_pass_rules(0.3)[name])
    for step in range(4):
        whole(one, opt, step)
        in_two_calls(two, calls, step)
    assert torch.equal(weights(one), weights(two))
    assert all(torch.equal(a, b) for a, b in zip(buffers(one), buffers(two), strict=True))
    assert two[1].num_batches_tracked == 4


@pytest.mark.parametrize("name", more_pass_rules(0.3))
def test_rules_of_more_passes_say_that_they_want_a_closure(name):
    model = network(nn.LayerNorm(5))
    opt, before = wrapped(model, more_pass_rules(0.3)[name]), weights(model)
    with pytest.raises(ValueError, match=r"more than two passes.*use step\(closure\)"):
        in_two_calls(model, opt, 0)
    assert torch.equal(weights(model), before)
    assert opt.rule_state is None
    whole(model, opt, 0)
    assert not torch.equal(weights(model), before)


def test_the_weights_are_at_the_perturbed_point_between_the_calls():
    model = network()
    opt, w = wrapped(model, sam(0.3), lr=0.0), weights(model)
    backward(model)
    g = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert opt.first_step(zero_grad=False)
    assert torch.equal(g, torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(weights(model) - w, 0.3 * g / g.norm(), rtol=1e-12, atol=1e-14)
    opt.zero_grad()
    backward(model)
    opt.second_step(zero_grad=True)
    assert torch.equal(weights(model), w)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("second_backward", [False, True])
@pytest.mark.parametrize(
    ("rule", "needed"),
    [(looksam(0.3, period=2), [True, False, True]), (rsam(0.3, plain_steps=2), [False, False, True])],
    ids=["looksam", "rsam"],
)
def test_a_step_without_pass_2_stays_at_w_and_takes_no_notice_of_one(rule, needed, second_backward):
    (one, opt), (two, calls) = pair(rule)
    for step in range(3):
        whole(one, opt, step)
        calls.zero_grad()
        backward(two, step)
        w = weights(two)
        assert calls.first_step() == needed[step]
        assert torch.equal(weights(two), w) != needed[step]
        if needed[step] or second_backward:
            backward(two, step if needed[step] else 9)
        calls.second_step()
    assert torch.equal(weights(one), weights(two))
    assert all(torch.equal(a, b) for a, b in zip(buffers(one), buffers(two), strict=True))


def test_parameters_without_gradients_are_left_alone():
    model = network()
    model.register_parameter("extra", nn.Parameter(torch.ones(2, dtype=torch.float64)))
    opt = wrapped(model, sam(0.0))  # with weight decay, which a gradient of zero would let act
    backward(model)
    opt.first_step()
    (model.extra.sum() * 0).backward()
    opt.second_step()
    assert torch.equal(model.extra, torch.ones(2, dtype=torch.float64))
    assert model.extra.grad is None


def test_calls_out_of_order_say_what_is_missing():
    model = network()
    opt = wrapped(model, sam(0.3))
    with pytest.raises(ValueError, match=r"second_step needs first_step before it: loss.backward\(\)"):
        opt.second_step()
    backward(model)
    opt.first_step()
    for call in (opt.first_step, lambda: opt.step(lambda: None)):
        with pytest.raises(ValueError, match=r"first_step was called before: call second_step, or restore\(\)"):
            call()
    backward(model)
    opt.second_step()
    with pytest.raises(ValueError, match="second_step needs first_step"):
        opt.second_step()


def test_restore_is_the_way_back_after_an_exception():
    (model, opt), (other, fresh) = pair(sam(0.3))
    opt.restore()  # nothing to do
    backward(model)
    w, statistics = weights(model), buffers(model)
    opt.first_step()
    backward(model)  # and here something raises
    opt.restore()
    assert torch.equal(weights(model), w)
    assert all(torch.equal(a, b) for a, b in zip(buffers(model), statistics, strict=True))
    other.load_state_dict(model.state_dict())
    in_two_calls(model, opt, 1)
    in_two_calls(other, fresh, 1)
    assert torch.equal(weights(model), weights(other))


@pytest.mark.parametrize("rewound", [False, True])
def test_dropout_draws_anew_in_pass_2_unless_rewound(rewound):
    masks, model = [], network(nn.Dropout(0.5))
    model[1].register_forward_hook(lambda _m, _x, output: masks.append(output == 0))
    opt = wrapped(model, sam(0.3))
    rewind = random_state()
    backward(model)
    opt.first_step()
    if rewound:
        rewind()
    backward(model)
    opt.second_step()
    assert torch.equal(masks[0], masks[1]) == rewound


@pytest.mark.parametrize("bad_pass", [1, 2])
def test_a_gradient_that_is_not_finite_skips_the_step(bad_pass):
    model = network()
    opt, before = wrapped(model, looksam(0.3)), weights(model)
    for number in (1, 2):
        opt.zero_grad()
        backward(model)
        if number == bad_pass:
            model[0].bias.grad[0] = float("nan")
        if number == 1:
            assert opt.first_step() == (bad_pass == 2)
    with pytest.warns(UserWarning, match=f"pass {bad_pass} is not finite"):
        opt.second_step()
    assert torch.equal(weights(model), before)
    assert not opt.state
    assert opt.rule_state is None


def test_a_scheduler_sees_that_a_step_was_made():
    model = network()
    opt = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), sam(0.3), model=model)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(opt, 0.5)
    for step in range(2):
        in_two_calls(model, opt, step)
        scheduler.step()  # without a step it warns, and warnings are errors
    assert opt.base.param_groups[0]["lr"] == 0.025


def test_accumulation_over_both_passes_equals_the_whole_batch():
    (one, opt), (two, calls) = ((model, wrapped(model, gsam(0.3))) for model in (network(), network()))
    whole(one, opt, 0)

    def parts():
        for x, y in zip(*(part.split(4) for part in data(0)), strict=True):
            (F.cross_entropy(two(x), y) / 3).backward()

    parts()
    calls.first_step()
    parts()
    calls.second_step()
    torch.testing.assert_close(weights(one), weights(two), rtol=1e-12, atol=1e-14)


def test_a_loop_that_steps_the_base_by_itself():
    (one, opt), (two, other) = pair(gsam(0.3))
    for step in range(3):
        whole(one, opt, step)
        w = weights(two)
        other.direction(lambda step=step: backward(two, step))
        assert torch.equal(weights(two), w)
        other.base.step()
        other.zero_grad()
    assert torch.equal(weights(one), weights(two))
    before = weights(two)
    two[0].bias.register_hook(lambda g: g * float("nan"))
    with pytest.warns(UserWarning, match="pass 1 is not finite"):
        other.direction(lambda: backward(two))
    assert all(p.grad is None for p in two.parameters())
    other.base.step()
    assert torch.equal(weights(two), before)
