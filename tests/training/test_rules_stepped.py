"""One step of a rule through `SharpnessAware` against its formula, with gradients by torch.func."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from step_cases import closure_for, data, network, weights, wrapped
from torch import nn

from landscape.training.rules import gsam, random_perturbation

LR = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}


def loss_of(model, w):
    names = [name for name, _ in model.named_parameters()]
    pieces = w.split([p.numel() for p in model.parameters()])
    named = {name: piece.view_as(model.get_parameter(name)) for name, piece in zip(names, pieces, strict=True)}
    x, y = data()
    return F.cross_entropy(torch.func.functional_call(model, named, x), y)


def stepped(rule, steps=1):
    """The gradient as a function, w before each step and w after the last."""
    model = network(nn.LayerNorm(5))
    opt, ws = wrapped(model, rule, **LR), [weights(model)]
    for _ in range(steps):
        opt.step(closure_for(model, opt, *data()))
        ws.append(weights(model))
    return torch.func.grad(partial(loss_of, network(nn.LayerNorm(5)))), ws


def close(moved, d):
    torch.testing.assert_close(moved, -0.1 * d, rtol=1e-10, atol=1e-12)


def test_random_perturbation():
    gradient, ws = stepped(random_perturbation(0.3, seed=3), 2)
    for step in range(2):
        e = random_perturbation(0.3, seed=3).perturb(ws[step], ws[step], {"step": step})[0]
        assert e.norm().item() == pytest.approx(0.3, rel=1e-12)
        close(ws[step + 1] - ws[step], gradient(ws[step] + e))


def across(a, b):
    return a - (a @ b) / (b @ b) * b


GSAM = {
    "f_p, h": lambda g, g_adv: g_adv - 0.7 * across(g, g_adv),
    "f, h": lambda g, g_adv: g + 0.7 * across(g_adv, g),
    "f_p + h": lambda g, g_adv: g_adv + 0.7 * (g_adv - g),
    "f + h": lambda g, g_adv: g + 0.7 * (g_adv - g),
}


@pytest.mark.parametrize("name", GSAM)
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("scheduled", [{}, {"rho_min": 0.1, "lr_max": 0.2}])  # at lr .1: .2
def test_gsam_and_its_comparisons(name, adaptive, scheduled):
    gradient, (w, after) = stepped(gsam(0.3, 0.7, minimise=name, adaptive=adaptive, **scheduled))
    g, T = gradient(w), torch.ones_like(w)
    if adaptive:  # the weights of both linear layers; biases and the norm have 1
        T[:20], T[35:50] = w[:20].abs() + 0.01, w[35:50].abs() + 0.01
    g_adv = gradient(w + (0.2 if scheduled else 0.3) * T**2 * g / (T * g).norm())
    close(after - w, GSAM[name](g, g_adv))
