from math import sqrt

import pytest
import torch
from rule_cases import EXACT, G, W, around, descend, perturb, random_vector

from landscape.training.rules import asam, friendly_sam, gsam, looksam, sam, wsam


def test_gsam_radius_follows_the_learning_rate():
    rule = gsam(0.4, 0.3, rho_min=0.1, lr_max=1.0, lr_min=0.2)
    for lr, rho in ((1.0, 0.4), (0.2, 0.1), (0.6, 0.25), (0.05, 0.1)):  # the last one in a warm-up
        torch.testing.assert_close(perturb(rule, W, G, lr=lr)[0], rho * G / sqrt(170), **EXACT)
    g_adv = random_vector(1, 5)
    assert torch.equal(descend(rule, G, g_adv), gsam(0.4, 0.3).descend(G, g_adv))


def test_gsams_comparisons_have_closed_forms():
    g_adv = random_vector(1, 5)
    across = g_adv - (g_adv @ G) / (G @ G) * G
    expected = {"f, h": G + 0.3 * across, "f_p + h": 1.3 * g_adv - 0.3 * G, "f + h": 0.7 * G + 0.3 * g_adv}
    for name, d in expected.items():
        rule = gsam(0.1, 0.3, minimise=name)
        torch.testing.assert_close(descend(rule, G, g_adv), d, **EXACT)
        scheduled = gsam(0.1, 0.3, minimise=name, rho_min=0.1, lr_max=1.0)
        torch.testing.assert_close(descend(scheduled, G, g_adv), d, **EXACT)
        assert torch.equal(perturb(rule, W, G)[0], perturb(sam(0.1), W, G)[0])
    torch.testing.assert_close(
        descend(gsam(minimise="f + h", alpha=9.0), G, g_adv), descend(wsam(decoupled=False), G, g_adv), **EXACT
    )
    zero = torch.zeros_like(G)
    assert torch.equal(descend(gsam(0.1, 0.3, minimise="f, h"), zero, g_adv), 0.3 * g_adv)
    with pytest.raises(ValueError, match="minimise must be one of"):
        gsam(minimise="f")


def test_gsam_may_take_the_perturbation_of_asam():
    e = perturb(asam(0.4, 0.1), W, G)[0]
    assert torch.equal(perturb(gsam(0.4, adaptive=True, eta=0.1), W, G)[0], e)
    scheduled = gsam(0.4, rho_min=0.1, lr_max=1.0, lr_min=0.2, adaptive=True, eta=0.1)
    torch.testing.assert_close(perturb(scheduled, W, G, lr=0.6)[0], 0.25 / 0.4 * e, **EXACT)
    g_adv = random_vector(1, 5)
    assert torch.equal(descend(gsam(adaptive=True), G, g_adv), descend(gsam(), G, g_adv))
    assert torch.equal(perturb(gsam(0.4, adaptive=True, eta=0.0), W, torch.zeros_like(G))[0], torch.zeros_like(G))


def test_wsam_closed_form_and_limits():
    g_adv = random_vector(1, 5)
    assert torch.equal(wsam(0.1).perturb(W, G, None)[0], sam(0.1).perturb(W, G, None)[0])
    for gamma, expected in ((0.9, -8 * G + 9 * g_adv), (0.5, g_adv), (0.0, G)):
        torch.testing.assert_close(wsam(0.1, gamma, decoupled=False).descend(G, g_adv), expected, **EXACT)
        decoupled = wsam(0.1, gamma)
        assert torch.equal(decoupled.descend(G, g_adv), G)
        torch.testing.assert_close(G + decoupled.beside(G, g_adv), expected, **EXACT)


def test_looksam_takes_pass_two_every_period_and_uses_its_part_across_g_between():
    rule, state, gs = looksam(0.1, period=3, alpha=0.7), None, [random_vector(seed, 5) for seed in range(7)]
    g_adv, kept, second = random_vector(8, 5), None, []
    for g in gs:
        e, state = rule.perturb(W, g, state, around(g))
        second.append(e is not None)
        d, state = rule.descend(g, g if e is None else g_adv, state, around(g))
        if e is None:
            torch.testing.assert_close(d, g + 0.7 * g.norm() / kept.norm() * kept, **EXACT)
        else:
            kept = g_adv - (g_adv @ g) / (g @ g) * g
            torch.testing.assert_close(e, 0.1 * g / g.norm(), **EXACT)
            assert torch.equal(d, g_adv)
    assert second == [True, False, False, True, False, False, True]


def test_looksam_without_a_kept_part_is_the_base():
    """Where e was zero there was no pass 2, and nothing is kept."""
    rule = looksam(0.0)
    _, state = rule.perturb(W, G, None, around())
    e, state = rule.perturb(W, G, state, around())
    assert e is None
    assert torch.equal(rule.descend(G, G, state, around())[0], G)


def test_friendly_sam_averages_the_raw_gradients():
    rule, state, gs = friendly_sam(0.1, sigma=0.8, lmbda=0.9), None, [random_vector(seed, 5) for seed in range(4)]
    mean = gs[0]
    for step, g in enumerate(gs):
        e, state = rule.perturb(W, g, state)
        u = g if step == 0 else g - 0.8 * mean
        torch.testing.assert_close(e, 0.1 * u / u.norm(), **EXACT)
        mean = 0.9 * mean + 0.1 * g
    torch.testing.assert_close(state["mean"], mean, **EXACT)


def test_friendly_sam_without_the_mean_is_sam():
    _, state = friendly_sam(0.1, sigma=0.0).perturb(W, W, None)
    e, _ = friendly_sam(0.1, sigma=0.0).perturb(W, G, state)
    assert torch.equal(e, sam(0.1).perturb(W, G, None)[0])
