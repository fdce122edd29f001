"""Training rules: where a two-pass optimiser looks for the second gradient, and what it descends along.

Pass 1 gives g at w, the rule gives e, pass 2 gives g_adv at w + e, and the base optimiser steps at w with
d = descend(g, g_adv). A rule is a record of these two pure functions on flat vectors (P,); `SharpnessAware` is the
step around them. Below ĝ = g/|g|; wherever a vector that must be normalised is zero, so is the result.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from landscape.checks import integer_in, norm_order, not_negative, vector_like
from landscape.vectors import Layout, Vector, filter_norms, reject, steepest, unit

State = Any  # None at first; then tensors, numbers, None and dicts of these, so that it can be saved


def _adversarial(g: Tensor, g_adv: Tensor) -> Tensor:  # noqa: ARG001  (one signature for all)
    return g_adv


@dataclass(frozen=True)
class Rule:
    """A training rule.

    Attributes:
        name: how messages and checkpoints call it.
        perturb: (w, g, state) to (e, state), flat vectors (P,); state is None at the first step. With `layout` it is
            called as (w, g, state, layout). It must not change w or g.
        descend: (g, g_adv) to d, (P,); default g_adv.
        layout: whether `perturb` must tell weights from biases, or filters, and so wants the `Layout` of w.
    """

    name: str
    perturb: Callable[..., tuple[Tensor, State]]
    descend: Callable[[Tensor, Tensor], Tensor] = _adversarial
    layout: bool = False


def sam(rho: float = 0.05, p: float = 2) -> Rule:
    """SAM: the maximiser of <e, g> over |e|_p <= rho.

    e = rho sign(g) |g|^(q-1) / (Σ|g|^q)^(1/p), 1/p + 1/q = 1;  p = 2: rho ĝ;  p = inf: rho sign(g);
    p = 1: the largest coordinate alone.

    Args:
        rho: radius, at least 0; reference: .05 (CIFAR-10, ImageNet), .1 (CIFAR-100, label noise).
        p: the norm of the ball, in [1, inf].
    Raises:
        ValueError: if rho is negative or p below 1.
    Source: Foret et al. 2021, arXiv:2010.01412.
    """
    not_negative("rho", rho)
    norm_order("p", p)
    return Rule("sam", lambda _w, g, state: (rho * steepest(g, p), state))


def asam(rho: float = 0.5, eta: float = 0.01, p: float = 2, filterwise: bool = False) -> Rule:
    """Adaptive SAM: the maximiser of <e, g> over |T⁻¹e|_p <= rho, a ball that follows the weights' scale.

    T = |w| + eta on weights and 1 on biases and normalisation layers;  p = 2: e = rho T²g / |Tg|;
    p = inf: e = rho T sign(g);  filter-wise, |w| is the norm of the filter that the entry belongs to.

    Args:
        rho: radius, at least 0; reference: .5 (CIFAR-10), 1 (CIFAR-100).
        eta: keeps weights near zero movable; reference: .01.
        p: the norm of the ball, in [1, inf].
        filterwise: one scale a filter instead of one a weight.
    Raises:
        ValueError: if rho or eta is negative or p below 1.
    Source: Kwon et al. 2021, arXiv:2102.11600.
    """
    not_negative("rho", rho)
    not_negative("eta", eta)
    norm_order("p", p)

    def perturb(w: Vector, g: Vector, state: State, layout: Layout) -> tuple[Vector, State]:
        scale = (filter_norms(w, layout) if filterwise else w.abs()) + eta
        T = torch.where(_weights(layout, w.device), scale, 1.0)
        return rho * T * steepest(T * g, p), state

    return Rule("asam", perturb, layout=True)


def fisher_sam(rho: float = 0.1, eta: float = 1.0) -> Rule:
    """Fisher SAM: the ball of the Fisher metric, its diagonal estimated by the squared batch gradient.

    e = rho f⁻¹g / sqrt(g·f⁻¹g),  f⁻¹ = 1 / (1 + eta g²), the paper's dampened inverse of the diagonal g².

    Args:
        rho: radius (gamma in the paper), at least 0; reference: .1.
        eta: weight of the metric, at least 0; reference: 1; 0 is SAM.
    Raises:
        ValueError: if rho or eta is negative.
    Source: Kim et al. 2022, arXiv:2206.04920.
    """
    not_negative("rho", rho)
    not_negative("eta", eta)

    def perturb(_w: Vector, g: Vector, state: State) -> tuple[Vector, State]:
        root = (1 + eta * g**2).rsqrt()  # f^(-1/2): e = rho f^(-1/2) unit(f^(-1/2) g) has no 0/0
        return rho * root * unit(root * g), state

    return Rule("fisher_sam", perturb)


def gsam(rho: float = 0.05, alpha: float = 0.4) -> Rule:
    """GSAM: descends on the perturbed loss and, across it, on the surrogate gap.

    e = rho ĝ;  d = g_adv − alpha g⊥,  g⊥ = g − (g·g_adv / |g_adv|²) g_adv.

    Args:
        rho: radius, at least 0, held constant (the paper lowers it with the learning rate).
        alpha: weight of the gap, at least 0; reference: .4; 0 is SAM.
    Raises:
        ValueError: if rho or alpha is negative.
    Source: Zhuang et al. 2022, arXiv:2203.08065.
    """
    not_negative("rho", rho)
    not_negative("alpha", alpha)
    return Rule(
        "gsam",
        perturb=lambda _w, g, state: (rho * unit(g), state),
        descend=lambda g, g_adv: g_adv - alpha * reject(g, g_adv),
    )


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

    def perturb(_w: Vector, g: Vector, state: State) -> tuple[Vector, State]:
        step, v = (state["step"], state["v"]) if state else (0, None)
        v = _unit_like(top(), g) if step % period == 0 else v
        e = unit(g) if v is None else unit(g) + alpha * (g @ v).sign() * reject(v, g)
        return rho * e, {"step": step + 1, "v": v}

    return Rule("eigen_sam", perturb)


RULES: dict[str, Callable[..., Rule]] = {
    "sam": sam,
    "asam": asam,
    "fisher_sam": fisher_sam,
    "gsam": gsam,
    "eigen_sam": eigen_sam,
}


def _weights(layout: Layout, device: torch.device) -> Tensor:
    """True at the entries of weights, False at those of biases and normalisation layers, (P,)."""
    sizes = torch.tensor(layout.sizes, device=device)
    return torch.tensor(layout.is_weight, device=device).repeat_interleave(sizes)


def _unit_like(v: Tensor | None, g: Vector) -> Vector | None:
    if v is None:
        return None
    v = v.detach().to(g)
    vector_like("top()", v, g)
    return unit(v)
