"""Fisher SAM: e in the ball of the Fisher metric, eᵀFe <= rho², F by its diagonal or exact.

Both may step along the natural gradient, the paper's footnote 3: d = F⁻¹ g_adv with the same F, that of w.
Source: Kim et al. 2022, arXiv:2206.04920.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from landscape.checks import integer_in, not_negative, positive, require
from landscape.linalg.operator import CurvatureOperator
from landscape.linalg.solve import solve
from landscape.training.rules.rule import Rule, State
from landscape.vectors import Vector, unit


def fisher_sam(rho: float = 0.1, eta: float = 1.0, *, natural: bool = False) -> Rule:
    """Fisher SAM: the ball of the Fisher metric, its diagonal estimated by the squared batch gradient.

    e = rho f⁻¹g / sqrt(g·f⁻¹g),  f⁻¹ = 1 / (1 + eta g²), the paper's dampened inverse of the diagonal g².

    Args:
        rho: radius (gamma in the paper), at least 0; reference: .1.
        eta: weight of the metric, at least 0; reference: 1; 0 is SAM.
        natural: d = f⁻¹ g_adv; else d = g_adv. With rho = 0 it is the natural gradient alone.
    Raises:
        ValueError: if rho or eta is negative.
    """
    not_negative("rho", rho)
    not_negative("eta", eta)
    perturb = partial(_by_diagonal, rho=rho, eta=eta)
    if not natural:
        return Rule("fisher_sam", perturb, rho=rho, out=True)
    return Rule("fisher_sam", partial(_or_none, perturb=perturb), partial(_damped, eta=eta), rho=rho)


def exact_fisher_sam(
    rho: float = 0.1,
    damping: float = 1e-3,
    products: int = 20,
    *,
    operator: Callable[[], CurvatureOperator],
    natural: bool = False,
) -> Rule:
    """Fisher SAM with the Fisher matrix itself: e = rho x / sqrt(g·x),  (F + damping I) x = g  by conjugate gradients.

    Then eᵀ(F + damping I)e = rho², however few products the solution had.

        exact_fisher_sam(operator=lambda: ls.fisher(ls.Problem(model, criterion, (inputs, targets))))

    Args:
        rho: radius, at least 0; reference: .1.
        damping: in the Fisher matrix's units, positive.
        products: with F a solution at most, at least 1.
        operator: gives F at the present weights, (P, P) in the order of the optimised parameters; asked at each step,
            and twice with natural.
        natural: d = (F + damping I)⁻¹ g_adv; else d = g_adv. With rho = 0 it is the natural gradient alone.
    Raises:
        ValueError: if an argument is out of range; at a step, if the operator's size is not P.
    """
    not_negative("rho", rho)
    positive("damping", damping)
    integer_in("products", products, 1)
    inverse = partial(_inverse_times, operator, damping, products)
    perturb = partial(_by_matrix, rho=rho, inverse=inverse)
    if not natural:
        return Rule("exact_fisher_sam", perturb, rho=rho)
    return Rule("exact_fisher_sam", partial(_or_none, perturb=perturb), partial(_natural, inverse=inverse), rho=rho)


def _by_diagonal(
    _w: Vector, g: Vector, state: State, *, rho: float, eta: float, out: Tensor | None = None
) -> tuple[Vector, State]:
    root = g.square().mul_(eta).add_(1).rsqrt_()  # f^(-1/2): e = rho f^(-1/2) unit(f^(-1/2) g) has no 0/0
    damped = torch.mul(root, g, out=out)
    return unit(damped, out=damped).mul_(root).mul_(rho), state


def _damped(g: Vector, g_adv: Vector, *, eta: float) -> Vector:
    return g_adv / (1 + eta * g.square())


def _inverse_times(operator: Callable[[], CurvatureOperator], damping: float, products: int, v: Vector) -> Vector:
    F = operator()
    require(F.shape[0] == len(v), f"operator() must be of the {len(v)} optimised parameters, got {F.shape[0]}")
    return solve(F, v.to(F.dtype), damping=damping, max_matvecs=products).x.to(v)


def _by_matrix(
    _w: Vector, g: Vector, state: State, *, rho: float, inverse: Callable[[Vector], Vector]
) -> tuple[Vector, State]:
    if rho == 0 or not g.any():
        return torch.zeros_like(g), state
    x = inverse(g)
    return x * (rho / (g @ x).sqrt()), state


def _natural(_g: Vector, g_adv: Vector, *, inverse: Callable[[Vector], Vector]) -> Vector:
    return inverse(g_adv)


def _or_none(
    w: Vector, g: Vector, state: State, *, perturb: Callable[..., tuple[Vector, State]]
) -> tuple[Vector | None, State]:
    """No e in place of a zero one: the step is along d, not along g."""
    e, state = perturb(w, g, state)
    return (e if e.any() else None), state
