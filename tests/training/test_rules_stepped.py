"""One step of a rule through `SharpnessAware` against its formula, with gradients by torch.func."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from step_cases import closure_for, data, network, weights, wrapped
from torch import nn

import landscape as ls
from landscape.training.rules import entropy_sgd, exact_fisher_sam, fisher_sam, gsam, random_perturbation
from landscape.training.rules.rule import source_at
from landscape.training.sharpness_aware.step import SharpnessAware
from landscape.vectors import normal_like

LR = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}


def log_probabilities(model, w):
    pieces = w.split([p.numel() for p in model.parameters()])
    named = {name: piece.view_as(p) for (name, p), piece in zip(model.named_parameters(), pieces, strict=True)}
    return torch.func.functional_call(model, named, data()[0]).log_softmax(1)


def loss_of(model, w):
    return F.nll_loss(log_probabilities(model, w), data()[1])


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


@pytest.mark.parametrize("rho", [0.3, 0.0])
def test_fisher_sam_with_a_natural_gradient_step(rho):
    gradient, (w, after) = stepped(fisher_sam(rho, 0.7, natural=True))
    g = gradient(w)
    f = 1 + 0.7 * g**2
    close(after - w, gradient(w + rho * (g / f) / (g @ (g / f)).sqrt()) / f)


@pytest.mark.parametrize("natural", [False, True])
@pytest.mark.parametrize("rho", [0.3, 0.0])
def test_exact_fisher_sam_of_a_network(rho, natural):
    """F as the mean over samples and classes of p_c ∇log p_c ∇log p_cᵀ, dense."""
    model = network(nn.LayerNorm(5))
    problem = ls.Problem(model, F.cross_entropy, data())
    rule = exact_fisher_sam(rho, 0.01, 53, operator=lambda: ls.fisher(problem), natural=natural)
    opt, w = SharpnessAware(torch.optim.SGD(model.parameters(), lr=0.1), rule, model=model), weights(model)
    opt.step(closure_for(model, opt, *data()))
    fresh = network(nn.LayerNorm(5))
    gradient = torch.func.grad(partial(loss_of, fresh))
    log_p = torch.func.jacrev(partial(log_probabilities, fresh))(w)  # (n, classes, P)
    p = log_probabilities(fresh, w).exp()
    damped = torch.einsum("nc,ncp,ncq->pq", p, log_p, log_p) / len(p) + 0.01 * torch.eye(53, dtype=torch.float64)
    g = gradient(w)
    x = torch.linalg.solve(damped, g)
    e = rho * x / (g @ x).sqrt()
    assert (e @ damped @ e).item() == pytest.approx(rho**2, rel=1e-10)
    d = gradient(w + e)
    d = torch.linalg.solve(damped, d) if natural else d
    torch.testing.assert_close(weights(model) - w, -0.1 * d, rtol=1e-6, atol=1e-8)


def test_an_operator_of_another_size_is_named():
    other = ls.Problem(nn.Linear(4, 3).double(), F.cross_entropy, data())
    with pytest.raises(ValueError, match=r"operator\(\) must be of the 53 optimised parameters, got 15"):
        stepped(exact_fisher_sam(operator=lambda: ls.fisher(other)))


def test_entropy_sgd_walks_around_w():
    settings = {"lr": 0.2, "alpha": 0.6, "noise": 0.01, "scope": 0.5, "seed": 3}
    gradient, ws = stepped(entropy_sgd(0.4, 3, **settings), 2)
    for step in range(2):
        gamma, source = 0.4 * 1.5**step, source_at(3, step, ws[0].device)
        x = mean = ws[step]
        for _ in range(3):
            x = x - 0.2 * (gradient(x) + gamma * (x - ws[step])) + 0.2**0.5 * 0.01 * normal_like(x, source)
            mean = 0.4 * mean + 0.6 * x
        close(ws[step + 1] - ws[step], gamma * (ws[step] - mean))


def test_entropy_sgd_of_one_quiet_step_is_the_base():
    gradient, (w, after) = stepped(entropy_sgd(0.4, 1, lr=0.2, alpha=0.6, noise=0.0))
    close(after - w, 0.4 * 0.6 * 0.2 * gradient(w))
