from math import sqrt

import torch
from rule_cases import EXACT, HESSIAN, G, W, descend, perturb, random_vector

from landscape.training.rules import egr, sam_second_order


def test_second_order_sam_closed_form():
    g_adv, unit_g = random_vector(1, 5), G / sqrt(170)
    torch.testing.assert_close(perturb(sam_second_order(0.3), W, G)[0], 0.3 * unit_g, **EXACT)
    across = torch.eye(5, dtype=torch.float64) - torch.outer(unit_g, unit_g)
    expected = g_adv + 0.3 / sqrt(170) * HESSIAN @ across @ g_adv
    torch.testing.assert_close(descend(sam_second_order(0.3), G, g_adv), expected, **EXACT)


def test_second_order_sam_is_the_gradient_of_the_perturbed_loss():
    w = random_vector(2, 5).requires_grad_()
    g = HESSIAN @ w
    moved = w + 0.3 * g / g.norm()
    expected = torch.autograd.grad(0.5 * moved @ HESSIAN @ moved, w)[0]
    g = g.detach()
    d = descend(sam_second_order(0.3), g, HESSIAN @ moved.detach())
    torch.testing.assert_close(d, expected, **EXACT)


def test_egr_is_the_gradient_of_the_regularised_loss_and_needs_no_second_pass():
    w = random_vector(2, 5).requires_grad_()
    g = HESSIAN @ w
    expected = torch.autograd.grad(0.5 * w @ HESSIAN @ w + 0.3 * g.norm(), w)[0]
    g = g.detach()
    assert perturb(egr(0.3), W, g)[0] is None
    torch.testing.assert_close(descend(egr(0.3), g, g), expected, **EXACT)
