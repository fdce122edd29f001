from dataclasses import replace
from functools import partial
from math import inf, sqrt

import pytest
import torch
from rule_cases import EXACT, HESSIAN, G, W, around, descend, perturb, random_vector, some_rule

from landscape.side_effects import global_state
from landscape.training.rules import RULES, Rule, asam, eigen_sam, fisher_sam, gsam, sam
from landscape.training.rules.rule import PLAIN


@pytest.mark.parametrize("p", [1, 1.001, 1.5, 2, 3, 50, inf])
def test_sam_reaches_the_dual_norm(p):
    g, q = random_vector(0), (inf if p == 1 else 1.0 if p == inf else p / (p - 1))
    e, _ = sam(0.3, p).perturb(g, g, None)
    largest = g.abs().max()  # taken out, else |g|^q overflows for p near 1
    torch.testing.assert_close(e @ g, 0.3 * largest * torch.linalg.vector_norm(g / largest, q), **EXACT)
    torch.testing.assert_close(torch.linalg.vector_norm(e, p), torch.tensor(0.3, dtype=torch.float64), **EXACT)


def test_sam_closed_forms():
    torch.testing.assert_close(sam(2.6, 2).perturb(W, G, None)[0], 2.6 * G / sqrt(170), **EXACT)
    torch.testing.assert_close(sam(0.5, inf).perturb(W, G, None)[0], 0.5 * G.sign(), **EXACT)
    assert sam(0.5, 1).perturb(W, G, None)[0].tolist() == [0, 0, 0, 0.5, 0]
    g = torch.tensor([1.0, -8.0], dtype=torch.float64)  # p = 3, q = 1.5: |g|^(1/2), sum |g|^q = 1 + 8^1.5
    expected = torch.tensor([1.0, -sqrt(8)], dtype=torch.float64) / (1 + 8**1.5) ** (1 / 3)
    torch.testing.assert_close(sam(1.0, 3).perturb(g, g, None)[0], expected, **EXACT)


def test_sam_does_not_depend_on_the_gradient_scale_and_does_not_overflow():
    for p in (1.05, 1.5, 2, 4):
        small, large = (sam(0.1, p).perturb(W, scale * G, None)[0] for scale in (1e-30, 1e30))
        torch.testing.assert_close(small, large, **EXACT)


def test_asam_closed_forms():
    T = torch.tensor([1.1, 2.1, 2.1, 0.6, 1.0], dtype=torch.float64)  # the bias has scale 1
    torch.testing.assert_close(perturb(asam(0.5, 0.1), W, G)[0], 0.5 * T**2 * G / (T * G).norm(), **EXACT)
    torch.testing.assert_close(perturb(asam(0.5, 0.1, p=inf), W, G)[0], 0.5 * T * G.sign(), **EXACT)
    a, b = sqrt(5) + 0.1, sqrt(4.25) + 0.1  # norms of the two rows
    T = torch.tensor([a, a, b, b, 1.0], dtype=torch.float64)
    torch.testing.assert_close(
        perturb(asam(0.5, 0.1, filterwise=True), W, G)[0], 0.5 * T**2 * G / (T * G).norm(), **EXACT
    )


@pytest.mark.parametrize("p", [1, 1.5, 2, inf])
def test_asam_is_the_maximiser_on_its_ellipsoid(p):
    e, _ = perturb(asam(0.5, 0.1, p), W, G)
    T = torch.tensor([1.1, 2.1, 2.1, 0.6, 1.0], dtype=torch.float64)
    z = random_vector(1, 5000).view(1000, 5)
    others = 0.5 * T * z / torch.linalg.vector_norm(z, p, dim=1, keepdim=True)
    assert torch.linalg.vector_norm(e / T, p).item() == pytest.approx(0.5, rel=1e-12)
    assert (others @ G).max() <= e @ G


def test_asam_is_invariant_to_a_rescaling_of_the_weights_without_eta():
    scale = torch.tensor([10.0, 0.1, 3.0, 7.0, 1.0], dtype=torch.float64)
    plain, scaled = perturb(asam(0.5, 0.0), W, G)[0], perturb(asam(0.5, 0.0), scale * W, G / scale)[0]
    torch.testing.assert_close(scaled, scale * plain, **EXACT)


def test_fisher_sam_closed_form_and_radius():
    f = 1 + 0.7 * G**2
    e, _ = fisher_sam(0.1, 0.7).perturb(W, G, None)
    torch.testing.assert_close(e, 0.1 * (G / f) / sqrt((G @ (G / f)).item()), **EXACT)
    assert (e @ (f * e)).item() == pytest.approx(0.01, rel=1e-12)
    torch.testing.assert_close(fisher_sam(0.1, 0.0).perturb(W, G, None)[0], sam(0.1).perturb(W, G, None)[0], **EXACT)


def test_gsam_descends_across_the_perturbed_gradient():
    g, g_adv = random_vector(2), random_vector(3)
    across = g - (g @ g_adv) / (g_adv @ g_adv) * g_adv
    torch.testing.assert_close(gsam(0.1, 0.4).descend(g, g_adv), g_adv - 0.4 * across, **EXACT)
    torch.testing.assert_close(gsam(0.1, 0.4).perturb(W, G, None)[0], 0.1 * G / sqrt(170), **EXACT)
    assert torch.equal(gsam(0.1, 0.0).descend(g, g_adv), g_adv)


def test_eigen_sam_closed_form_does_not_depend_on_sign_or_length_of_the_eigenvector():
    v = torch.tensor([1.0, 0.0, 2.0, 0.0, 2.0], dtype=torch.float64)
    unit_g, unit_v = G / sqrt(170), v / 3
    across = unit_v - (unit_v @ unit_g) * unit_g
    for factor in (1.0, -5.0, 1e-3):
        e, _ = eigen_sam(0.1, 0.2, top=lambda factor=factor: factor * v).perturb(W, G, None)
        torch.testing.assert_close(e, 0.1 * (unit_g + 0.2 * across), **EXACT)  # g·v = 5 > 0
    e, _ = eigen_sam(0.1, 0.2, top=lambda: v).perturb(W, -G, None)
    torch.testing.assert_close(e, 0.1 * (-unit_g - 0.2 * across), **EXACT)


def test_eigen_sam_asks_for_the_eigenvector_every_period_over_the_whole_training():
    calls, answers = [], [None, random_vector(4, 5), random_vector(5, 5)]

    def top():
        calls.append(1)
        return answers[len(calls) - 1]

    rule, state, counts, es = eigen_sam(0.1, 0.2, top=top, period=3), None, [], []
    for _ in range(8):
        e, state = rule.perturb(W, G, state)
        counts.append(len(calls))
        es.append(e)
    assert counts == [1, 1, 1, 2, 2, 2, 3, 3]
    assert state["step"] == 8
    plain = sam(0.1).perturb(W, G, None)[0]
    assert all(torch.equal(e, plain) for e in es[:3])  # top() gave None: plain SAM
    assert torch.equal(es[3], es[5])
    assert not torch.allclose(es[5], es[6])
    assert not torch.allclose(es[3], plain)


@pytest.mark.parametrize("name", [name for name in RULES if name != "entropy_sgd"])  # which has no e
def test_zero_gradients_and_zero_radius_give_no_perturbation(name):
    zero = torch.zeros_like(G)
    if name != "random_perturbation":  # which does not look at g
        assert not perturb(some_rule(name), W, zero)[0].any()
    assert not perturb(some_rule(name, rho=0.0), W, G)[0].any()
    _, state = perturb(some_rule(name), W, G)
    for g, g_adv in ((G, zero), (zero, G), (zero, zero)):
        if name != "sam_second_order" or g.any():  # it divides by |g|, and is not asked where e is 0
            assert descend(some_rule(name), g, g_adv, state).isfinite().all()


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, inf])
def test_zero_gradient_in_every_norm(p):
    zero = torch.zeros_like(G)
    assert not sam(0.1, p).perturb(W, zero, None)[0].any()
    assert not perturb(asam(0.1, 0.0, p), torch.zeros_like(W), G * torch.tensor([1.0, 1, 1, 1, 0]))[0].any()


def test_a_zero_eigenvector_is_plain_sam():
    e, _ = eigen_sam(0.1, 0.2, top=lambda: torch.zeros_like(G)).perturb(W, G, None)
    assert torch.equal(e, sam(0.1).perturb(W, G, None)[0])


@pytest.mark.parametrize("name", RULES)
def test_rules_change_neither_weights_nor_gradients(name):
    w, g, g_adv = W.clone(), G.clone(), random_vector(6, 5)
    kept = g_adv.clone()
    rule = some_rule(name)
    _, state = perturb(rule, w, g)
    descend(rule, g, g_adv, state)
    assert torch.equal(w, W)
    assert torch.equal(g, G)
    assert torch.equal(g_adv, kept)


@pytest.mark.parametrize("name", RULES)
def test_the_state_can_be_saved_without_pickle(name, tmp_path):
    _, state = perturb(some_rule(name), W, G)
    torch.save(state, tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    _, again = perturb(some_rule(name), W, G, loaded)
    assert (again is None) == (state is None)


def test_names_and_records():
    assert all(some_rule(name).name == name for name in RULES)
    assert replace(sam(), name="mine").name == "mine"


def test_rules_that_are_known_to_draw_nothing_leave_the_global_random_state_alone():
    known = [rule for rule in (*map(some_rule, RULES), PLAIN) if rule.draws_nothing]
    assert {"sam", "gsam", "wsam", "plain"} <= {rule.name for rule in known}
    for rule in known:
        before = global_state()
        perturb(rule, W, G.clone())
        assert global_state() == before
    assert not any(rule.draws_nothing for rule in (some_rule("eigen_sam"), Rule("own", lambda w, g, state: (g, state))))
    assert not replace(sam(), perturb=partial(Rule.find_perturbation, sam())).draws_nothing


def test_a_rule_of_ones_own_may_take_less():
    """Whatever it declares, the step calls it in one way."""
    few = Rule("few", lambda w, g, state: (g, state), lambda g, g_adv: g + g_adv)
    placed = Rule("placed", lambda w, g, state, layout: (g * len(layout.names), state), layout=True)
    whole = Rule(
        "whole",
        lambda w, g, state, context: (context.lr * g, "next"),
        lambda g, g_adv, state, context: (context.product(g), state),
        context=True,
    )
    found = [rule.find_perturbation(W, G, None, around()) for rule in (few, placed, whole)]
    for (e, state), factor, expected in zip(found, (1, 2, 0.1), (None, None, "next"), strict=True):
        assert torch.equal(e, factor * G)
        assert state == expected
    found = [rule.find_direction(G, W, "kept", around()) for rule in (few, placed, whole)]
    for (d, state), expected in zip(found, (G + W, W, HESSIAN @ G), strict=True):
        assert torch.equal(d, expected)
        assert state == "kept"
