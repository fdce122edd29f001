"""m-sharpness on one device: an e for each part of the batch."""

import pytest
import torch
import torch.nn.functional as F
from step_cases import closure_for, data, every_rule, network, weights, wrapped
from torch import nn

from landscape.training.rules import eigen_sam, friendly_sam, gsam, rsam, sam, wsam

SIZES = [6, 4, 2]


def closures_for(model, opt, step, sizes=SIZES, passes=None):
    parts = zip(*(part.split(sizes) for part in data(step)), strict=True)
    return [closure_for(model, opt, x, y, passes) for x, y in parts]


@pytest.mark.parametrize("name", every_rule(0.3))
def test_one_part_is_the_plain_step_to_the_bit(name):
    found = []
    for listed in (False, True):
        model = network(nn.LayerNorm(5))
        opt = wrapped(model, every_rule(0.3)[name])
        for step in range(4):
            closure = closure_for(model, opt, *data(step))
            opt.step([closure] if listed else closure, sizes=[12] if listed else None)
        found.append((weights(model), opt.rule_state))
    assert torch.equal(found[0][0], found[1][0])
    assert str(found[0][1]) == str(found[1][1])


@pytest.mark.parametrize("rule", [sam(0.3), gsam(0.3, 0.4)], ids=lambda rule: rule.name)
def test_parts_in_five_steps_equal_the_rule_written_out(rule):
    model, plain = network(), network()
    opt = wrapped(model, rule)
    ps, velocity = list(plain.parameters()), 0.0
    for step in range(5):
        opt.step(closures_for(model, opt, step), sizes=SIZES)
        w, g, g_adv = weights(plain), 0.0, 0.0
        for x, y in zip(*(part.split(SIZES) for part in data(step)), strict=True):
            own = torch.cat([t.flatten() for t in torch.autograd.grad(F.cross_entropy(plain(x), y), ps)])
            nn.utils.vector_to_parameters(w + 0.3 * own / own.norm(), ps)
            there = torch.cat([t.flatten() for t in torch.autograd.grad(F.cross_entropy(plain(x), y), ps)])
            nn.utils.vector_to_parameters(w, ps)
            g, g_adv = g + len(y) / 12 * own, g_adv + len(y) / 12 * there
        across = g - (g @ g_adv) / (g_adv @ g_adv) * g_adv
        d = g_adv - 0.4 * across if rule.name == "gsam" else g_adv
        velocity = 0.9 * velocity + d + 0.01 * w
        nn.utils.vector_to_parameters(w - 0.1 * velocity, ps)
    torch.testing.assert_close(weights(model), weights(plain), rtol=1e-12, atol=1e-12)


def test_each_part_has_its_own_perturbation_and_two_passes():
    model, passes = network(), []
    opt, w = wrapped(model, sam(0.3)), weights(model)
    losses = opt.step(closures_for(model, opt, 0, passes=passes))
    assert len(losses) == 3
    moved = [there - w for there in passes]
    assert [e.norm().item() for e in moved] == pytest.approx([0, 0.3, 0, 0.3, 0, 0.3], rel=1e-12)
    assert not torch.allclose(moved[1], moved[3])


def test_the_state_of_a_rule_advances_once_a_step_by_the_whole_batch():
    parts, whole = network(), network()
    opt, plain = wrapped(parts, friendly_sam(0.0)), wrapped(whole, friendly_sam(0.0))
    for step in range(3):
        opt.step(closures_for(parts, opt, step), sizes=SIZES)
        plain.step(closure_for(whole, plain, *data(step)))
    torch.testing.assert_close(opt.rule_state["mean"], plain.rule_state["mean"], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(weights(parts), weights(whole), rtol=1e-12, atol=1e-14)
    for rule in (rsam(0.3), eigen_sam(0.3, top=lambda: None)):
        opt = wrapped(parts, rule)
        opt.step(closures_for(parts, opt, 0))
        assert opt.rule_state["step"] == 1


def test_radius_zero_steps_along_the_mean_gradient_of_the_parts_to_the_bit():
    """WSAM's mixture of two equal gradients would round."""
    found = []
    for rule in (sam(0.0), wsam(0.0)):
        model = network()
        opt = wrapped(model, rule)
        opt.step(closures_for(model, opt, 0), sizes=SIZES)
        found.append(weights(model))
    assert torch.equal(*found)


def test_a_part_that_is_not_finite_skips_the_step():
    model = network()
    opt, before = wrapped(model, friendly_sam(0.3)), weights(model)
    closures = closures_for(model, opt, 0)

    def spoilt():
        closures[1]()
        model[0].bias.grad[0] = float("inf")

    with pytest.warns(UserWarning, match="pass 1 is not finite"):
        opt.step([closures[0], spoilt, closures[2]])
    assert torch.equal(weights(model), before)
    assert not opt.state
    assert opt.rule_state is None


def test_statistics_and_random_numbers_are_those_of_the_first_passes():
    masks, model, plain = [], network(nn.BatchNorm1d(5), nn.Dropout(0.5)), network(nn.BatchNorm1d(5), nn.Dropout(0.5))
    model[2].register_forward_hook(lambda _m, _x, output: masks.append(output == 0))
    opt = wrapped(model, sam(0.3), lr=0.0)
    opt.step(closures_for(model, opt, 0))
    for x in data(0)[0].split(SIZES):
        plain(x)
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), plain.buffers(), strict=True))
    assert [torch.equal(masks[i], masks[i + 1]) for i in (0, 2, 4)] == [True] * 3


@pytest.mark.parametrize("sizes", [[1.0], [1.0, 0.0], []])
def test_sizes_must_fit(sizes):
    opt = wrapped(network(), sam())
    with pytest.raises(ValueError, match="sizes must be 2 positive numbers, one a closure, got"):
        opt.step([lambda: None] * 2, sizes=sizes)
