"""Vectors of five entries on which the rules have closed forms, and a quadratic around them as context."""

import torch

from landscape.linalg.operator import MatrixOperator
from landscape.training.rules import RULES, Context
from landscape.vectors import Layout

EXACT = {"rtol": 1e-12, "atol": 1e-12}
G = torch.tensor([3.0, -4.0, 0.0, 12.0, 1.0], dtype=torch.float64)
W = torch.tensor([1.0, -2.0, 2.0, 0.5, 0.0], dtype=torch.float64)
HESSIAN = torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)) + 0.5
FISHER = torch.diag(W.abs()) + 0.2 * torch.outer(G, G)  # positive definite with some damping
# a (2, 2) weight, and one shift of a normalisation layer
LAYOUT = Layout(("weight", "bias"), (torch.Size([2, 2]), torch.Size([1])), (True, False), (False, True))


def random_vector(seed, size=40):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


CALLABLES = {
    "eigen_sam": {"top": lambda: random_vector(9, 5)},
    "ssam_f": {"fisher": lambda: random_vector(9, 5) ** 2},
    "exact_fisher_sam": {"operator": lambda: MatrixOperator(FISHER)},
}


def some_rule(name, **settings):
    return RULES[name](**settings, **CALLABLES.get(name, {}))


def around(g=G, lr=0.1, layout=LAYOUT):
    """The context of a quadratic whose gradient at w is g."""
    return Context(layout, lr, gradient=lambda e: g + HESSIAN @ e, product=lambda v: HESSIAN @ v)


def perturb(rule, w, g, state=None, layout=LAYOUT, lr=0.1):
    return rule.find_perturbation(w, g, state, around(g, lr, layout))


def descend(rule, g, g_adv, state=None):
    """The direction alone."""
    return rule.find_direction(g, g_adv, state, around(g))[0]
