"""Rules that use the Hessian: its top eigenvector in e, or a product with it in the direction of descent."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from landscape.checks import integer_in, not_negative
from landscape.training.rules.rule import (
    Context,
    Rule,
    State,
    along_with_context,
    due,
    steps_done,
    vector_from,
)
from landscape.vectors import Vector, reject, unit


def eigen_sam(rho: float = 0.05, alpha: float = 0.1, *, top: Callable[[], Tensor | None], period: int = 100) -> Rule:
    """Eigen-SAM: SAM's perturbation turned towards the top eigenvector of the Hessian.

    e = rho (ĝ + alpha sign(g·v) v⊥),  v⊥ = v − (v·ĝ)ĝ, not renormalised. Where there is no v yet: e = rho ĝ (the
    authors' code takes the unnormalised rho g there).

    Args:
        rho: radius, at least 0; reference: .1 (CIFAR-100).
        alpha: weight of the eigenvector, at least 0; reference: .05, .1 or .2.
        top: gives the current top eigenvector (P,), of any length, or None for plain SAM; the sign is arbitrary.
        period: steps between calls of `top`, the first at step 0, counted over the whole training; reference: 100.
    Raises:
        ValueError: if rho or alpha is negative or period below 1; at a step, if `top` gives another shape than (P,).
    Source: Luo et al. 2024, arXiv:2501.12666.
    """
    not_negative("rho", rho)
    not_negative("alpha", alpha)
    integer_in("period", period, 1)

    return Rule("eigen_sam", partial(_eigen_sam, rho=rho, alpha=alpha, top=top, period=period), rho=rho)


def _eigen_sam(
    _w: Vector, g: Vector, state: State, *, rho: float, alpha: float, top: Callable[[], Tensor | None], period: int
) -> tuple[Vector, State]:
    v = state["v"] if state else None
    if due(state, period):
        found = top()
        v = None if found is None else unit(vector_from("top()", found, g))
    e = unit(g) if v is None else unit(g) + alpha * (g @ v).sign() * reject(v, g)
    return rho * e, {"step": steps_done(state) + 1, "v": v}


def sam_second_order(rho: float = 0.05) -> Rule:
    """SAM with the derivative of e: the true gradient of w ↦ L(w + rho ĝ(w)).

    e = rho ĝ;  d = g_adv + (rho/|g|) H (I − ĝĝᵀ) g_adv,  H at w. Four passes a step.

    Args:
        rho: radius, at least 0.
    Raises:
        ValueError: if rho is negative.
    Source: Foret et al. 2021, arXiv:2010.01412, who found it no better than the first order.
    """
    not_negative("rho", rho)
    perturb, descend = partial(along_with_context, rho=rho), partial(_second_order, rho=rho)
    return Rule("sam_second_order", perturb, descend, context=True)


def _second_order(g: Vector, g_adv: Vector, state: State, context: Context, *, rho: float) -> tuple[Vector, State]:
    return g_adv + rho / g.norm() * context.product(reject(g_adv, g)), state  # e is not 0, so g is not


def egr(rho: float = 0.05) -> Rule:
    """Explicit gradient regularisation: descends on L + rho |g|; a control of the Eigen-SAM paper.

    No pass at w + e;  d = g + rho H ĝ,  H at w. Three passes a step.

    Args:
        rho: weight of the gradient's norm, at least 0.
    Raises:
        ValueError: if rho is negative.
    Source: Luo et al. 2024, arXiv:2501.12666.
    """
    not_negative("rho", rho)
    return Rule("egr", partial(_stay, rho=rho), partial(_along_penalty, rho=rho), context=True)


def _stay(_w: Vector, g: Vector, state: State, _context: Context, *, rho: float) -> tuple[Vector | None, State]:
    return (None if rho > 0 and g.any() else torch.zeros_like(g)), state


def _along_penalty(g: Vector, _g_adv: Vector, state: State, context: Context, *, rho: float) -> tuple[Vector, State]:
    return g + rho * context.product(unit(g)), state
