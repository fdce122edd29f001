"""Rules of one gradient: e is a point of a ball around w, or of a sphere whose radius follows from g.

New vectors are scaled in place: while e is built, memory for few further copies of a large network is left.
"""

from dataclasses import dataclass
from functools import partial
from math import inf

import torch
from torch import Tensor

from landscape.checks import integer_in, norm_order, not_negative, positive, require
from landscape.training.rules.rule import Context, Rule, State, adversarial, along, source_at, steps_done
from landscape.vectors import Layout, Vector, filter_norms, normal_like, steepest, unit


def sam(rho: float = 0.05, p: float = 2, steps: int = 1) -> Rule:
    """SAM: the maximiser of <e, g> over |e|_p <= rho.

    e = rho sign(g) |g|^(q-1) / (Σ|g|^q)^(1/p), 1/p + 1/q = 1;  p = 2: rho ĝ;  p = inf: rho sign(g);
    p = 1: the largest coordinate alone.  More steps go on by projected ascent: e ← Π(e + e(g(w + e))), Π onto the ball
    (by clamping for p = inf, else by scaling).

    Args:
        rho: radius, at least 0; reference: .05 (CIFAR-10, ImageNet), .1 (CIFAR-100, label noise).
        p: the norm of the ball, in [1, inf].
        steps: of ascent, a pass each; reference: 1, and about the same error for 2 to 5.
    Raises:
        ValueError: if rho is negative, p below 1 or steps below 1.
    Source: Foret et al. 2021, arXiv:2010.01412.
    """
    not_negative("rho", rho)
    norm_order("p", p)
    integer_in("steps", steps, 1)
    if steps == 1:
        perturb = partial(along, rho=rho) if p == 2 else partial(_sam, rho=rho, p=p)
        return Rule("sam", perturb, rho=rho, out=True)
    return Rule("sam", partial(_sam_steps, rho=rho, p=p, steps=steps), adversarial, context=True)


def _sam(
    _w: Vector, g: Vector, state: State, *, rho: float, p: float, out: Tensor | None = None
) -> tuple[Vector, State]:
    return steepest(g, p, out=out).mul_(rho), state


def _sam_steps(
    _w: Vector, g: Vector, state: State, context: Context, *, rho: float, p: float, steps: int
) -> tuple[Vector, State]:
    e = rho * steepest(g, p)
    for _ in range(steps - 1 if e.any() else 0):
        e = _pull_back(e + rho * steepest(context.gradient(e), p), rho, p)
    return e, state


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

    return Rule("asam", Adaptive(rho, eta, p, filterwise), layout=True, rho=rho, out=eta > 0)


@dataclass(frozen=True)
class Adaptive:
    """ASAM's `perturb`."""

    rho: float
    eta: float
    p: float = 2
    filterwise: bool = False

    def __call__(
        self, w: Vector, g: Vector, state: State, layout: Layout, out: Tensor | None = None
    ) -> tuple[Vector, State]:
        T = (filter_norms(w, layout) if self.filterwise else w.abs()).add_(self.eta)
        for piece, is_weight in zip(T.split(layout.sizes), layout.is_weight, strict=True):
            if not is_weight:
                piece.fill_(1.0)
        scaled = torch.mul(T, g, out=out)
        return steepest(scaled, self.p, out=scaled).mul_(T).mul_(self.rho), state


def reverse_sam(rho: float = 0.05) -> Rule:
    """Reverse SAM: e = −rho ĝ, towards lower loss; a control of the Eigen-SAM paper.

    Args:
        rho: radius, at least 0.
    Raises:
        ValueError: if rho is negative.
    Source: Luo et al. 2024, arXiv:2501.12666.
    """
    not_negative("rho", rho)
    return Rule("reverse_sam", partial(along, rho=-rho), rho=rho, out=True)


def random_perturbation(rho: float = 0.05, seed: int = 0) -> Rule:
    """SAM's ablation: e = rho u/|u|, u normal and drawn afresh at each step, in place of the gradient.

    Args:
        rho: radius, at least 0.
        seed: of the directions, at least 0; the global random state is neither read nor moved.
    Raises:
        ValueError: if rho or seed is negative.
    Source: Foret et al. 2021, arXiv:2010.01412, appendix C.5.
    """
    not_negative("rho", rho)
    integer_in("seed", seed, 0)
    return Rule("random_perturbation", partial(_at_random, rho=rho, seed=seed), rho=rho)


def _at_random(_w: Vector, g: Vector, state: State, *, rho: float, seed: int) -> tuple[Vector, State]:
    step = steps_done(state)
    u = normal_like(g, source_at(seed, step, g.device))
    return unit(u, out=u).mul_(rho), {"step": step + 1}


def rsam(rho: float = 0.65, a: float = 1.2, plain_steps: int = 0) -> Rule:
    """Rényi SAM: e = sign(a − 1) rho (R/|g|²) g,  R = Σ|g|^(2a) / (Σg²)^a.

    |e| = rho R/|g| grows as g becomes small: the paper trains some epochs plainly first.

    Args:
        rho: at least 0; reference: .65.
        a: order, positive, not 1; reference: 1.2.
        plain_steps: steps of the base alone at the beginning; reference: 5 epochs.
    Raises:
        ValueError: if rho is negative, a is not positive or 1, or plain_steps is negative.
    Source: the definition of Rényi sharpness's authors.
    """
    not_negative("rho", rho)
    positive("a", a)
    require(a != 1, "a must not be 1, where R is constant")
    integer_in("plain_steps", plain_steps, 0)
    return Rule("rsam", partial(_rsam, signed=rho if a > 1 else -rho, a=a, plain_steps=plain_steps), rho=rho)


def _rsam(_w: Vector, g: Vector, state: State, *, signed: float, a: float, plain_steps: int) -> tuple[Vector, State]:
    step, norm = steps_done(state), g.norm()
    e = torch.zeros_like(g)
    if step >= plain_steps and norm > 0:
        e = signed * unit(g).abs().pow(2 * a).sum() / norm * unit(g)
    return e, {"step": step + 1}


def sam_on(rho: float = 0.5, p: float = 2, adaptive: bool = False, eta: float = 0.01) -> Rule:
    """SAM-ON: SAM, or adaptive SAM, of the normalisation layers' scales and shifts alone; the norm is over them.

    Args:
        rho: radius, at least 0; reference: larger than SAM's.
        p: the norm of the ball, in [1, inf].
        adaptive: T = |w| + eta on these parameters, as ASAM has it on weights; else T = 1.
        eta: see adaptive.
    Raises:
        ValueError: if rho or eta is negative or p below 1; at a step, if the network has no normalisation layer.
    Source: Müller et al. 2023, arXiv:2306.04226.
    """
    not_negative("rho", rho)
    not_negative("eta", eta)
    norm_order("p", p)

    return Rule("sam_on", partial(_sam_on, rho=rho, p=p, eta=eta if adaptive else None), layout=True, rho=rho)


def _sam_on(
    w: Vector, g: Vector, state: State, layout: Layout, *, rho: float, p: float, eta: float | None
) -> tuple[Vector, State]:
    require(any(layout.is_norm), "sam_on must have normalisation layers to perturb, got none; use sam")
    T = torch.ones_like(w) if eta is None else w.abs().add_(eta)
    for piece, is_norm in zip(T.split(layout.sizes), layout.is_norm, strict=True):
        if not is_norm:
            piece.zero_()
    return rho * T * steepest(T * g, p), state


def _pull_back(e: Vector, rho: float, p: float) -> Vector:
    """`e` itself if |e|_p <= rho, else a point of the sphere towards it."""
    if p == inf:
        return e.clamp(-rho, rho)
    return e * (rho / torch.linalg.vector_norm(e, p)).clamp(max=1)
