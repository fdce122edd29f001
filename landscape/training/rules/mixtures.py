"""Rules that mix gradients: of both passes in the direction of descent, or of earlier steps in either pass."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from landscape.checks import integer_in, not_negative, one_of, require
from landscape.training.rules.balls import Adaptive
from landscape.training.rules.rule import Context, Rule, State, along, due, steps_done
from landscape.vectors import Vector, reject, unit


def gsam(
    rho: float = 0.05,
    alpha: float = 0.4,
    *,
    rho_min: float | None = None,
    lr_max: float | None = None,
    lr_min: float = 0.0,
    minimise: str = "f_p, h",
    adaptive: bool = False,
    eta: float = 0.01,
) -> Rule:
    """GSAM: descends on the perturbed loss f_p and, across it, on the surrogate gap h = f_p − f.

    e = rho_t ĝ, or ASAM's e of radius rho_t;  with g of f, g_adv of f_p and g_adv − g of h, d is, by `minimise`,

        "f_p, h"   g_adv − alpha g⊥,  g⊥ = g − (g·g_adv / |g_adv|²) g_adv
        "f, h"     g + alpha g_adv⊥,  g_adv⊥ = g_adv − (g_adv·g / |g|²) g
        "f_p + h"  g_adv + alpha (g_adv − g)
        "f + h"    g + alpha (g_adv − g), which is coupled WSAM.

    rho_t is rho, or with rho_min it follows the learning rate:
    rho_t = rho_min + (rho − rho_min)(lr − lr_min)/(lr_max − lr_min).

    Args:
        rho: radius, at least 0; with rho_min the largest.
        alpha: weight of the gap, at least 0; reference: .4; 0 is SAM, or the base for "f, h" and "f + h".
        rho_min: radius at lr_min; None holds rho constant.
        lr_max: the learning rate at which the radius is rho; needed with rho_min.
        lr_min: below lr_max; at a lower learning rate, in a warm-up, the radius stays at rho_min.
        minimise: what for; reference: "f_p, h"; the others are the paper's comparisons, the third in its Table 2.
        adaptive: e = rho_t T²g/|Tg|, T = |w| + eta on weights and 1 on biases and normalisation layers, as ASAM has it.
        eta: see adaptive.
    Raises:
        ValueError: if rho, rho_min, alpha or eta is negative, rho_min comes without an lr_max above lr_min, or minimise
            is unknown.
    Source: Zhuang et al. 2022, arXiv:2203.08065.
    """
    not_negative("rho", rho)
    not_negative("alpha", alpha)
    not_negative("eta", eta)
    one_of("minimise", minimise, tuple(_DIRECTIONS))
    descend = partial(_DIRECTIONS[minimise], alpha=alpha)
    if rho_min is None:
        perturb = Adaptive(rho, eta) if adaptive else partial(along, rho=rho)
        return Rule("gsam", perturb, descend, layout=adaptive, rho=rho, out=True)
    not_negative("rho_min", rho_min)
    require(
        lr_max is not None and lr_max > lr_min,
        f"rho_min needs an lr_max above lr_min, got lr_max={lr_max!r}, lr_min={lr_min!r}",
    )
    slope = (rho - rho_min) / (lr_max - lr_min)  # type: ignore[operator]
    scale = Adaptive(1.0, eta) if adaptive else None
    return Rule(
        "gsam", _Scheduled(rho_min, slope, lr_min, scale), partial(_with_context, descend=descend), context=True
    )


def _across_perturbed(g: Vector, g_adv: Vector, *, alpha: float, out: Tensor | None = None) -> Vector:
    return torch.mul(g_adv, 1 + alpha * _share(g, g_adv), out=out).sub_(g, alpha=alpha)


def _across_plain(g: Vector, g_adv: Vector, *, alpha: float, out: Tensor | None = None) -> Vector:
    share = _share(g_adv, g)
    return torch.mul(g_adv, alpha, out=out).addcmul_(g, 1 - alpha * share)


def _perturbed_and_gap(g: Vector, g_adv: Vector, *, alpha: float, out: Tensor | None = None) -> Vector:
    return torch.mul(g_adv, 1 + alpha, out=out).sub_(g, alpha=alpha)


def _plain_and_gap(g: Vector, g_adv: Vector, *, alpha: float, out: Tensor | None = None) -> Vector:
    return torch.mul(g_adv, alpha, out=out).add_(g, alpha=1 - alpha)


_DIRECTIONS = {
    "f_p, h": _across_perturbed,
    "f, h": _across_plain,
    "f_p + h": _perturbed_and_gap,
    "f + h": _plain_and_gap,
}


def _share(a: Vector, b: Vector) -> Tensor:
    """a·b / |b|², (): the part of a along b, in b; 0 where b is."""
    return (a @ unit(b)) / b.norm().clamp(min=torch.finfo(b.dtype).tiny)


def _with_context(
    g: Vector, g_adv: Vector, state: State, _context: Context, *, descend: Callable[[Vector, Vector], Vector]
) -> tuple[Vector, State]:
    return descend(g, g_adv), state


@dataclass(frozen=True)
class _Scheduled:
    rho_min: float
    slope: float
    lr_min: float
    scale: Adaptive | None

    def __call__(self, w: Vector, g: Vector, state: State, context: Context) -> tuple[Vector, State]:
        e = unit(g) if self.scale is None else self.scale(w, g, state, context.layout)[0]
        return e.mul_(self.rho_min + self.slope * max(context.lr - self.lr_min, 0.0)), state


def wsam(rho: float = 0.05, gamma: float = 0.9, *, decoupled: bool = True) -> Rule:
    """Weighted SAM: L + c times the sharpness L(w + e) − L(w), c = gamma/(1 − gamma).

    e = rho ĝ. Decoupled, the default here and in the authors' code: the base steps along g alone, and the weights move
    by −lr c (g_adv − g) besides, which momentum and adaptive scales do not see. Coupled: the base steps along
    d = g + c (g_adv − g) = ((1 − 2 gamma) g + gamma g_adv) / (1 − gamma). For SGD without momentum both are the same.

    Args:
        rho: radius, at least 0.
        gamma: in [0, 1); reference: .9; coupled, .5 is SAM; 0 is the base.
        decoupled: which of both forms.
    Raises:
        ValueError: if rho is negative or gamma outside [0, 1).
    Source: Yue et al. 2023, arXiv:2305.15817.
    """
    not_negative("rho", rho)
    require(0 <= gamma < 1, f"gamma must be in [0, 1), got {gamma!r}")
    weight = gamma / (1 - gamma)
    if decoupled:
        return Rule("wsam", partial(along, rho=rho), _at_w, rho=rho, beside=partial(_sharpness, weight=weight))
    return Rule("wsam", partial(along, rho=rho), partial(_plain_and_gap, alpha=weight), rho=rho, out=True)


def _at_w(g: Vector, _g_adv: Vector) -> Vector:
    return g


def _sharpness(g: Vector, g_adv: Vector, *, weight: float) -> Vector:
    return (g_adv - g).mul_(weight)


def looksam(rho: float = 0.05, period: int = 10, alpha: float = 0.7) -> Rule:
    """LookSAM: SAM every `period` steps; between them the part of SAM's gradient across g is used again.

    At steps 0, period, ...: e = rho ĝ, d = g_adv, g_v = g_adv − (g_adv·ĝ)ĝ; else one pass, d = g + alpha |g| g_v/|g_v|.

    Args:
        rho: radius, at least 0.
        period: steps between two of SAM, counted over the whole training; reference: 10; 1 is SAM.
        alpha: weight of the kept part, at least 0; reference: .7.
    Raises:
        ValueError: if rho or alpha is negative or period below 1.
    Source: Liu et al. 2022, arXiv:2203.02714.
    """
    not_negative("rho", rho)
    not_negative("alpha", alpha)
    integer_in("period", period, 1)

    perturb = partial(_look, rho=rho, period=period)
    return Rule("looksam", perturb, partial(_look_again, alpha=alpha), context=True, rho=rho)


def _look(
    _w: Vector, g: Vector, state: State, _context: Context, *, rho: float, period: int
) -> tuple[Vector | None, State]:
    looks = due(state, period)
    kept = state["kept"] if state and not looks else None
    return (rho * unit(g) if looks else None), {"step": steps_done(state) + 1, "kept": kept, "looks": looks}


def _look_again(g: Vector, g_adv: Vector, state: State, _context: Context, *, alpha: float) -> tuple[Vector, State]:
    if state["looks"]:
        return g_adv, {**state, "kept": unit(reject(g_adv, g))}
    return (g if state["kept"] is None else g + alpha * g.norm() * state["kept"]), state


def friendly_sam(rho: float = 0.05, sigma: float = 1.0, lmbda: float = 0.9) -> Rule:
    """Friendly SAM: perturbs along what is particular to the batch, its gradient less the running mean.

    e = rho u/|u|,  u = g − sigma m;  then m ← lmbda m + (1 − lmbda) g, of the raw g. As in the authors' code m starts
    as the first gradient, and the first step is SAM's. (With sigma = 1, m with or without the present g is the same e.)

    Args:
        rho: radius, at least 0.
        sigma: weight of the mean, at least 0; reference: 1; 0 is SAM.
        lmbda: of the moving average, in [0, 1); reference: .9.
    Raises:
        ValueError: if rho or sigma is negative or lmbda outside [0, 1).
    Source: Li et al. 2024, arXiv:2403.12350.
    """
    not_negative("rho", rho)
    not_negative("sigma", sigma)
    require(0 <= lmbda < 1, f"lmbda must be in [0, 1), got {lmbda!r}")

    return Rule("friendly_sam", partial(_friendly_sam, rho=rho, sigma=sigma, lmbda=lmbda), rho=rho)


def _friendly_sam(
    _w: Vector, g: Vector, state: State, *, rho: float, sigma: float, lmbda: float
) -> tuple[Vector, State]:
    if state is None:
        return rho * unit(g), {"mean": g.clone()}
    u, mean = g - sigma * state["mean"], torch.lerp(g, state["mean"], lmbda)
    if "new" in state:  # m starts as the first gradient there, and e as SAM's, for which the mean there is 0
        mean = torch.where(state["new"], g, mean)
    return rho * unit(u), {"mean": mean}
