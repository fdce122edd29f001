"""Mixed precision: autocast, and losses scaled by a GradScaler."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from step_cases import data, every_rule, network, weights, wrapped
from torch import nn

from landscape.training.rules import friendly_sam, gsam, looksam, sam
from landscape.training.sharpness_aware.step import SharpnessAware


def scaled_closure(model, opt, scaler, step, spoilt=None):
    """A closure whose pass number `spoilt` has an infinite gradient."""
    x, y = data(step)
    passes = []

    def closure():
        passes.append(1)
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        if len(passes) == spoilt:
            model[0].bias.grad[0] = float("inf")
        return loss

    return closure


def new_scaler(**settings):
    return torch.amp.GradScaler("cpu", **({"init_scale": 1024.0, "growth_interval": 2} | settings))


@pytest.mark.parametrize("name", every_rule(0.3))
def test_scaled_losses_give_the_plain_steps_to_the_bit(name):
    """A power of two loses no digit, so that e, which for some rules depends on the length of g, is the same."""
    found, scales = [], []
    for scaler in (new_scaler(enabled=False), new_scaler()):
        model = network(nn.LayerNorm(5))
        opt = wrapped(model, every_rule(0.3)[name])
        for step in range(4):
            opt.step(scaled_closure(model, opt, scaler, step), scaler=scaler)
            scaler.update()
            scales.append(scaler.get_scale())
        found.append(weights(model))
    assert torch.equal(*found)
    assert scales[4:] == [1024.0, 2048.0, 2048.0, 4096.0]  # twice as large after every two steps: one update each


@pytest.mark.parametrize("spoilt", [1, 2])
@pytest.mark.parametrize("rule", [sam(0.3), gsam(0.3), friendly_sam(0.3)], ids=lambda rule: rule.name)
def test_an_infinity_in_either_pass_skips_the_step_and_halves_the_scale_once(spoilt, rule):
    model, scaler = network(), new_scaler()
    opt, before = wrapped(model, rule), weights(model)
    with pytest.warns(UserWarning, match=f"pass {spoilt} is not finite"):
        opt.step(scaled_closure(model, opt, scaler, 0, spoilt), scaler=scaler)
    scaler.update()
    assert torch.equal(weights(model), before)
    assert not opt.state
    assert opt.rule_state is None
    assert scaler.get_scale() == 512.0
    opt.step(scaled_closure(model, opt, scaler, 0), scaler=scaler)
    scaler.update()
    other = network()
    plain = wrapped(other, rule)
    plain.step(scaled_closure(other, plain, new_scaler(enabled=False), 0))
    assert torch.equal(weights(model), weights(other))


def test_a_forgotten_update_of_the_scaler_is_torchs_error():
    model, scaler = network(), new_scaler()
    opt = wrapped(model, sam(0.3))
    opt.step(scaled_closure(model, opt, scaler, 0), scaler=scaler)
    with pytest.raises(RuntimeError, match=r"since the last update\(\)"):
        opt.step(scaled_closure(model, opt, scaler, 1), scaler=scaler)


@pytest.mark.parametrize("spoilt", [None, 1, 2])
def test_two_calls_take_the_scaler_as_well(spoilt):
    (one, opt), (two, calls) = ((model, wrapped(model, looksam(0.3))) for model in (network(), network()))
    scaler, own = new_scaler(), new_scaler()
    closure = scaled_closure(two, calls, own, 0, spoilt)
    opt.step(scaled_closure(one, opt, scaler, 0), scaler=scaler)
    closure()
    if calls.first_step(scaler=own):
        closure()
    if spoilt is None:
        calls.second_step()
    else:
        with pytest.warns(UserWarning, match=f"pass {spoilt} is not finite"):
            calls.second_step()
    own.update()
    assert torch.equal(weights(two), weights(one) if spoilt is None else weights(network()))
    assert own.get_scale() == (1024.0 if spoilt is None else 512.0)


def cast_closure(model, opt, dtype, scaler, inside):
    x, y = (part.float() if part.is_floating_point() else part for part in data())

    def closure():
        opt.zero_grad()
        with torch.autocast("cpu", dtype) if inside else nullcontext():
            loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()

    return closure


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_steps_are_the_exact_ones_up_to_its_rounding(dtype):
    exact, model, scaler = network(), network().float(), new_scaler(enabled=dtype == torch.float16)
    opt = wrapped(exact, gsam(0.5), momentum=0.0)
    opt.step(scaled_closure(exact, opt, new_scaler(enabled=False), 0))
    start, true = weights(network()), weights(exact) - weights(network())
    opt = wrapped(model, gsam(0.5), momentum=0.0)
    opt.step(cast_closure(model, opt, dtype, scaler, inside=True), scaler=scaler)
    error = (weights(model).double() - start - true).norm() / true.norm()
    assert 0 < error < 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("rule", [sam(2.0), gsam(2.0), sam(2.0, steps=2)], ids=["sam", "gsam", "steps=2"])
def test_an_autocast_block_around_the_whole_step_is_one_in_the_closure(rule):
    """Although autocast keeps its casts of the weights until the block ends, and would cast a rule's products."""
    found = []
    for inside in (True, False):
        model, scaler = network().float(), new_scaler(enabled=False)
        opt = wrapped(model, rule)
        for _ in range(2):
            with nullcontext() if inside else torch.autocast("cpu", torch.bfloat16):
                opt.step(cast_closure(model, opt, torch.bfloat16, scaler, inside))
        found.append(weights(model))
    assert torch.equal(*found)


@pytest.mark.parametrize("of", ["base", "wrapper"])
def test_gradients_that_were_unscaled_before_are_refused(of):
    model = torch.nn.Linear(3, 2)
    opt = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), sam(0.3), model=model)
    scaler = torch.amp.GradScaler("cpu")
    before = model.weight.detach().clone()

    def closure():
        opt.zero_grad()
        scaler.scale(model(torch.ones(4, 3)).square().mean()).backward()
        scaler.unscale_(opt if of == "wrapper" else opt.base)

    with pytest.raises(ValueError, match=r"scaler.unscale_ must not be called with scaler="):
        opt.step(closure, scaler=scaler)
    with pytest.raises(ValueError, match="to clip, give max_norm"):
        opt.first_step(scaler=scaler)
    assert torch.equal(model.weight, before)
    scaler.update()
