"""Sparse rules: SAM's e on some of the entries. The norm is that of the whole gradient, taken before masking."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import cos, inf, pi

import torch
from torch import Tensor

from landscape.checks import integer_in, not_negative, require
from landscape.training.rules.rule import Rule, State, due, source_at, steps_done, vector_from
from landscape.vectors import Vector, unit


def ssam_f(rho: float = 0.05, sparsity: float = 0.2, *, fisher: Callable[[], Tensor], period: int = 2000) -> Rule:
    """Sparse SAM, mask by Fisher information: e = rho m⊙ĝ, m = 1 at the largest entries of `fisher()`.

    Args:
        rho: radius, at least 0; reference: .05.
        sparsity: share of the entries without perturbation, in [0, 1); reference: .2 and more.
        fisher: gives the squared gradients of single samples, summed or averaged, (P,).
        period: steps between calls of `fisher`, the first at step 0; reference: 5 epochs.
    Raises:
        ValueError: if rho is negative, sparsity outside [0, 1) or period below 1; at a step, if `fisher` gives another
            shape than (P,).
    Source: Mi et al. 2022, arXiv:2210.05177.
    """
    _check(rho, sparsity, period)
    return Rule("ssam_f", partial(_ssam_f, rho=rho, sparsity=sparsity, fisher=fisher, period=period), rho=rho)


def _ssam_f(
    _w: Vector, g: Vector, state: State, *, rho: float, sparsity: float, fisher: Callable[[], Tensor], period: int
) -> tuple[Vector, State]:
    if due(state, period):
        mask = _largest(vector_from("fisher()", fisher(), g), _count_kept(g, sparsity))
    else:
        mask = state["mask"]
    return rho * unit(g) * mask, {"step": steps_done(state) + 1, "mask": mask}


def ssam_d(
    rho: float = 0.05,
    sparsity: float = 0.2,
    *,
    drop: float = 0.5,
    total: int | None = None,
    period: int = 2000,
    seed: int = 0,
) -> Rule:
    """Sparse SAM, dynamic mask: e = rho m⊙ĝ; at a refresh the flattest entries leave m, random others enter.

    Of the entries with m = 1, those of the smallest |g| leave, a share drop (1 + cos(π t/T))/2 of them at step t; as
    many of those with m = 0 enter. m is random at first.

    Args:
        rho: radius, at least 0; reference: .05.
        sparsity: share of the entries with m = 0, in [0, 1); reference: .2 and more.
        drop: share that leaves at first, in [0, 1]; reference: .5.
        total: T, steps of the training, at which the share is 0; None keeps it at `drop`.
        period: steps between refreshes; reference: 5 epochs.
        seed: of the mask, at least 0.
    Raises:
        ValueError: if an argument is out of range.
    Source: Mi et al. 2022, arXiv:2210.05177.
    """
    _check(rho, sparsity, period)
    integer_in("seed", seed, 0)
    require(0 <= drop <= 1, f"drop must be in [0, 1], got {drop!r}")
    if total is not None:
        integer_in("total", total, 1)

    return Rule("ssam_d", _DynamicMask(rho, sparsity, drop, total, period, seed), rho=rho)


@dataclass(frozen=True)
class _DynamicMask:
    rho: float
    sparsity: float
    drop: float
    total: int | None
    period: int
    seed: int

    def __call__(self, _w: Vector, g: Vector, state: State) -> tuple[Vector, State]:
        step = steps_done(state)
        if state is None or due(state, self.period):
            mask = self._looked(g, state, _uniform(g, self.seed, step))
        else:
            mask = state["mask"]
        return self.rho * unit(g) * mask, {"step": step + 1, "mask": mask}

    def _looked(self, g: Vector, state: State, draw: Vector) -> Tensor:
        """The mask of a refresh."""
        fresh = _largest(draw, _count_kept(g, self.sparsity))
        if state is None:
            return fresh
        mask = torch.where(state["new"], fresh, state["mask"]) if "new" in state else state["mask"]
        kept = int(mask.sum())
        return _exchange(mask, g, min(round(self._share(state["step"]) * kept), len(g) - kept), draw)

    def _share(self, step: int) -> float:
        return self.drop if self.total is None else self.drop * (1 + cos(pi * min(step / self.total, 1.0))) / 2


def esam(rho: float = 0.05, beta: float = 0.6, seed: int = 0) -> Rule:
    """Efficient SAM's weight perturbation: e = rho m⊙ĝ / beta, each m_i drawn afresh as 1 with probability beta.

    The other half of ESAM, pass 2 on the samples whose loss rises most, is the objective `top_samples`.

    Args:
        rho: radius, at least 0.
        beta: in (0, 1]; reference: .6; 1 is SAM.
        seed: of the masks, at least 0.
    Raises:
        ValueError: if rho or seed is negative or beta outside (0, 1].
    Source: Du et al. 2022, arXiv:2110.03141.
    """
    not_negative("rho", rho)
    require(0 < beta <= 1, f"beta must be in (0, 1], got {beta!r}")
    integer_in("seed", seed, 0)

    return Rule("esam", partial(_esam, rho=rho, beta=beta, seed=seed), rho=rho)


def _esam(_w: Vector, g: Vector, state: State, *, rho: float, beta: float, seed: int) -> tuple[Vector, State]:
    step = steps_done(state)
    mask = _uniform(g, seed, step) < beta
    return rho / beta * unit(g) * mask, {"step": step + 1}


def _check(rho: float, sparsity: float, period: int) -> None:
    not_negative("rho", rho)
    require(0 <= sparsity < 1, f"sparsity must be in [0, 1), got {sparsity!r}")
    integer_in("period", period, 1)


def _count_kept(g: Vector, sparsity: float) -> int:
    return len(g) - round(sparsity * len(g))


def _largest(score: Vector, count: int) -> Tensor:
    """True at the `count` largest entries, (P,)."""
    mask = torch.zeros_like(score, dtype=torch.bool)
    mask[score.topk(count).indices] = True
    return mask


def _exchange(mask: Tensor, g: Vector, count: int, draw: Vector) -> Tensor:
    """`count` entries of the smallest |g| leave the mask, as many of the largest `draw` enter."""
    fresh = mask.clone()
    fresh[torch.where(mask, g.abs(), inf).topk(count, largest=False).indices] = False
    fresh[torch.where(mask, -1.0, draw).topk(count).indices] = True
    return fresh


def _uniform(g: Vector, seed: int, step: int) -> Vector:
    """Uniform numbers (P,) of that step alone."""
    return torch.rand(g.shape, generator=source_at(seed, step, g.device), device=g.device)
