"""What the step does for rules that ask for more than two gradients."""

from math import sqrt

import pytest
import torch
import torch.nn.functional as F
from step_cases import closure_for, data, weights, wrapped
from step_cases import network as plain_network
from torch import nn

from landscape.training.rules import Rule, egr, friendly_sam, gsam, looksam, sam, sam_on, sam_second_order


def network(*extra):
    return plain_network(nn.LayerNorm(5), *extra)


def oracle(model, x, y):
    """Gradient and dense Hessian as functions of the flat vector."""
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]

    def loss(w):
        pieces = [t.view(s) for t, s in zip(w.split([s.numel() for s in shapes]), shapes, strict=True)]
        return F.cross_entropy(torch.func.functional_call(model, dict(zip(names, pieces, strict=True)), (x,)), y)

    return torch.func.grad(loss), torch.func.jacrev(torch.func.grad(loss))


def step_of(rule, model, x, y):
    """The direction of a plain step of length 1, and where the passes were."""
    passes, before = [], weights(model)
    opt = wrapped(model, rule, lr=1.0, momentum=0.0, weight_decay=0.0)
    opt.step(closure_for(model, opt, x, y, passes))
    return before - weights(model), passes


def test_products_are_those_of_the_dense_hessian():
    model, found = network(), []
    x, y = data()
    _, hessian = oracle(model, x, y)
    dense, v = hessian(weights(model)), torch.randn(43 + 10, dtype=torch.float64)

    def perturb(w, g, state, context):
        found.extend([context.product(v), context.product(1e8 * v), context.product(0 * v), context.gradient(0 * v), g])
        return torch.zeros_like(w), state

    step_of(Rule("asks", perturb, context=True), model, x, y)
    for product, factor in zip(found[:2], (1.0, 1e8), strict=True):
        torch.testing.assert_close(product / factor, dense @ v, rtol=0, atol=1e-9 * (dense @ v).norm().item())
    assert not found[2].any()
    assert torch.equal(found[3], found[4])


def test_second_order_sam_descends_on_the_perturbed_loss():
    model = network()
    x, y = data()
    gradient, hessian = oracle(model, x, y)
    w = weights(model)
    g, H = gradient(w), hessian(w)
    g_adv = gradient(w + 0.3 * g / g.norm())
    across = g_adv - (g_adv @ g) / (g @ g) * g
    d, passes = step_of(sam_second_order(0.3), model, x, y)
    torch.testing.assert_close(d, g_adv + 0.3 / g.norm() * H @ across, rtol=0, atol=1e-9)
    assert len(passes) == 4


def test_egr_takes_three_passes():
    model = network()
    x, y = data()
    gradient, hessian = oracle(model, x, y)
    g, H = gradient(weights(model)), hessian(weights(model))
    d, passes = step_of(egr(0.3), model, x, y)
    torch.testing.assert_close(d, g + 0.3 * H @ g / g.norm(), rtol=0, atol=1e-9)
    assert len(passes) == 3


def test_ascent_of_n_steps_takes_a_pass_more_for_each():
    model = network()
    x, y = data()
    gradient, _ = oracle(model, x, y)
    w = weights(model)
    e = 0.3 * gradient(w) / gradient(w).norm()
    for _ in range(2):
        slope = gradient(w + e)
        e = e + 0.3 * slope / slope.norm()
        e = 0.3 * e / max(e.norm().item(), 0.3)
    d, passes = step_of(sam(0.3, steps=3), model, x, y)
    torch.testing.assert_close(d, gradient(w + e), rtol=1e-10, atol=1e-12)
    assert len(passes) == 4


def test_looksam_saves_the_second_pass():
    model = network()
    counts = []
    opt = wrapped(model, looksam(0.3, period=3))
    for step in range(5):
        passes = []
        opt.step(closure_for(model, opt, *data(step), passes))
        counts.append(len(passes))
    assert counts == [2, 1, 1, 2, 1]


def test_gsam_reads_the_learning_rate_that_a_scheduler_has_set():
    model, lengths = network(), []
    opt = wrapped(model, gsam(0.4, rho_min=0.1, lr_max=0.1), momentum=0.0)
    scheduler = torch.optim.lr_scheduler.StepLR(opt, step_size=1, gamma=0.5)
    for step in range(3):
        passes = []
        opt.step(closure_for(model, opt, *data(step), passes))
        scheduler.step()
        lengths.append((passes[1] - passes[0]).norm().item())
    assert lengths == pytest.approx([0.4, 0.25, 0.175], rel=1e-10)


def test_sam_on_finds_the_normalisation_layers():
    model = network()
    _, passes = step_of(sam_on(0.3), model, *data())
    moved = passes[1] - passes[0]
    assert moved.norm().item() == pytest.approx(0.3, rel=1e-12)
    inside = torch.cat([torch.full((p.numel(),), name.startswith("1.")) for name, p in model.named_parameters()])
    assert torch.equal(moved != 0, inside)


def test_an_e_of_zeros_steps_along_the_first_gradient_also_after_more_passes():
    """The last pass was elsewhere, and its gradient must not be the one that the base takes."""

    def perturb(w, g, state, context):
        context.gradient(torch.ones_like(w))
        return torch.zeros_like(w), state

    model, x, y = network(), *data()
    g = oracle(model, x, y)[0](weights(model))
    d, _ = step_of(Rule("asks", perturb, context=True), model, x, y)
    torch.testing.assert_close(d, g, rtol=1e-12, atol=1e-12)


def test_every_pass_sees_the_same_dropout_and_only_the_first_moves_the_statistics():
    masks, model = [], network(nn.BatchNorm1d(5), nn.Dropout(0.5))
    model[3].register_forward_hook(lambda _m, _x, output: masks.append(output == 0))
    opt = wrapped(model, sam_second_order(0.1))
    opt.step(closure_for(model, opt, *data()))
    assert len(masks) == 4
    assert all(torch.equal(mask, masks[0]) for mask in masks)
    assert model[2].num_batches_tracked == 1


def test_a_direction_that_is_not_finite_skips_the_step():
    def descend(g, g_adv, state, context):
        return g_adv / 0, {"broken": True}

    model = network()
    before = weights(model)
    opt = wrapped(model, Rule("broken", lambda w, g, state, context: (g, state), descend, context=True))
    with pytest.warns(UserWarning, match="the gradient of the step is not finite"):
        opt.step(closure_for(model, opt, *data()))
    assert torch.equal(weights(model), before)
    assert opt.rule_state is None


def test_friendly_sam_in_ten_steps_equals_the_rule_written_out():
    model, plain = network(), network()
    opt = wrapped(model, friendly_sam(0.3, 0.8, 0.9))
    w, mean, velocity = weights(plain), None, 0.0
    for step in range(10):
        x, y = data(step)
        opt.step(closure_for(model, opt, x, y))
        gradient, _ = oracle(plain, x, y)
        g = gradient(w)
        u = g if mean is None else g - 0.8 * mean
        mean = g if mean is None else 0.9 * mean + 0.1 * g
        velocity = 0.9 * velocity + gradient(w + 0.3 * u / sqrt(float(u @ u))) + 0.01 * w
        w = w - 0.1 * velocity
    torch.testing.assert_close(weights(model), w, rtol=1e-10, atol=1e-10)
