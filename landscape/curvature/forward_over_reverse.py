"""Hessian products by forward over reverse, H v = d/dt ∇L(w + t v) at t = 0: no graph of second order is stored.

Source: Pearlmutter 1994, "Fast exact multiplication by the Hessian", section 3.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.autograd import forward_ad

from landscape.checks import require
from landscape.curvature.methods import Manner, Product, in_columns
from landscape.problem.batch import Batch, gradient_of
from landscape.vectors import Block, Vector


def forward_over_reverse(batch: Batch, manner: Manner) -> Product:
    """The batch's Hessian; needs a forward-mode derivative of every operation."""
    require(
        not batch.scripted,
        "forward over reverse gives 0 for a scripted network (torch.jit); use mode='double_backward'",
    )

    def one(v: Vector) -> Vector:
        with forward_ad.dual_level():
            with dual_rules_loaded():
                leaf = forward_ad.make_dual(batch.w.detach().clone(), v).requires_grad_()
            tangent = forward_ad.unpack_dual(gradient_of(batch.loss(leaf), leaf)).tangent
        return torch.zeros_like(v) if tangent is None else tangent

    def mapped(v: Vector) -> Vector:
        gradient = torch.func.grad(lambda w: batch.evaluate(w)[0])
        return torch.func.jvp(gradient, (batch.w.detach(),), (v,))[1]

    def product(block: Block) -> Block:
        if manner.chunk == 1 or block.shape[1] == 1:
            return in_columns(one, block, 1)
        with torch.no_grad():
            batch.loss(batch.w)  # a check for NaN, which vmap cannot make
        with dual_rules_loaded():
            return in_columns(mapped, block, manner.chunk)

    return product


@contextmanager
def dual_rules_loaded() -> Iterator[None]:
    """torch compiles its rules for dual numbers when it meets the first one, with a warning that is none of ours."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
        yield
