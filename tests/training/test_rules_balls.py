from dataclasses import replace
from math import inf, sqrt

import pytest
import torch
from rule_cases import EXACT, HESSIAN, LAYOUT, G, W, around, perturb, random_vector

from landscape.training.rules import random_perturbation, reverse_sam, rsam, sam, sam_on
from landscape.vectors import Layout


@pytest.mark.parametrize("p", [1, 1.5, 2, inf])
def test_steps_of_ascent_stay_in_the_ball_and_raise_a_quadratic(p):
    g, last = random_vector(0, 5), -inf
    for steps in range(1, 5):
        e, _ = perturb(sam(0.3, p, steps=steps), W, g)
        assert torch.linalg.vector_norm(e, p) <= 0.3 * (1 + 1e-12)
        rise = (g @ e + 0.5 * e @ HESSIAN @ e).item()
        assert rise >= last - 1e-12
        last = rise


def test_two_steps_written_out():
    first = 0.3 * G / sqrt(170)
    slope = G + HESSIAN @ first
    second = first + 0.3 * slope / slope.norm()
    torch.testing.assert_close(perturb(sam(0.3, steps=2), W, G)[0], 0.3 * second / second.norm(), **EXACT)
    first = 0.3 * G.sign()
    expected = (first + 0.3 * (G + HESSIAN @ first).sign()).clamp(-0.3, 0.3)
    torch.testing.assert_close(perturb(sam(0.3, inf, steps=2), W, G)[0], expected, **EXACT)


def test_a_flat_direction_is_not_left_by_more_steps():
    """Where the gradient is the same everywhere, one step has found the maximiser."""
    e, _ = sam(0.3, steps=5).perturb(W, G, None, replace(around(), gradient=lambda _e: G))
    torch.testing.assert_close(e, 0.3 * G / sqrt(170), **EXACT)


def test_reverse_sam_goes_down():
    torch.testing.assert_close(reverse_sam(2.6).perturb(W, G, None)[0], -2.6 * G / sqrt(170), **EXACT)


@pytest.mark.parametrize(("a", "sign"), [(1.2, 1), (2.0, 1), (0.5, -1)])
def test_rsam_closed_form(a, sign):
    R = (G.abs() ** (2 * a)).sum() / (G**2).sum() ** a
    torch.testing.assert_close(rsam(0.65, a).perturb(W, G, None)[0], sign * 0.65 * R / 170 * G, **EXACT)


def test_rsam_on_two_vectors_grows_as_the_gradient_shrinks():
    one, equal = torch.tensor([2.0, 0.0]).double(), torch.tensor([1.0, 1.0]).double()
    torch.testing.assert_close(
        rsam(0.1).perturb(one, one, None)[0], 0.1 / 2 * torch.tensor([1.0, 0.0]).double(), **EXACT
    )
    R = 2 / 2**1.2
    torch.testing.assert_close(rsam(0.1).perturb(one, equal, None)[0], 0.1 * R / 2 * equal, **EXACT)
    small = rsam(0.1).perturb(one, 1e-3 * equal, None)[0]
    torch.testing.assert_close(small, 1e3 * 0.1 * R / 2 * equal, **EXACT)


def test_rsam_trains_plainly_first():
    rule, state, moved = rsam(plain_steps=3), None, []
    for _ in range(5):
        e, state = rule.perturb(W, G, state)
        moved.append(bool(e.any()))
    assert moved == [False, False, False, True, True]


NORMS = Layout(LAYOUT.names, LAYOUT.shapes, (True, True), (True, False))  # the first four entries


def test_sam_on_perturbs_normalisation_layers_alone_with_the_norm_over_them():
    expected = torch.tensor([3.0, -4.0, 0.0, 12.0, 0.0]).double()
    torch.testing.assert_close(perturb(sam_on(2.6), W, G, layout=NORMS)[0], 2.6 * expected / 13, **EXACT)
    torch.testing.assert_close(perturb(sam_on(0.5, inf), W, G, layout=NORMS)[0], 0.5 * expected.sign(), **EXACT)
    T = torch.tensor([1.1, 2.1, 2.1, 0.6, 0.0], dtype=torch.float64)
    e, _ = perturb(sam_on(0.5, adaptive=True, eta=0.1), W, G, layout=NORMS)
    torch.testing.assert_close(e, 0.5 * T**2 * G / (T * G).norm(), **EXACT)


def test_random_perturbations_have_a_fixed_norm_follow_the_seed_and_leave_the_global_state_alone():
    before, es, state = torch.get_rng_state(), [], None
    for _ in range(400):
        e, state = random_perturbation(0.3, seed=1).perturb(W, G, state)
        es.append(e)
    assert torch.equal(torch.get_rng_state(), before)
    found = torch.stack(es)
    torch.testing.assert_close(found.norm(dim=1), torch.full((400,), 0.3, dtype=torch.float64), **EXACT)
    error = found.std(0) / 20
    assert (found.mean(0).abs() < 4 * error).all()
    squares = (found / 0.3) ** 2  # uniform on the sphere: mean 1/5, variance 2 · 4/(25 · 7)
    assert ((squares.mean(0) - 0.2).abs() < 4 * sqrt(8 / 175) / 20).all()
    again = random_perturbation(0.3, seed=1).perturb(W, -G, {"step": 7})[0]
    assert torch.equal(again, es[7])
    assert not torch.equal(random_perturbation(0.3, seed=2).perturb(W, G, None)[0], es[0])
