"""Entropy-SGD: descent on the free energy −log ∫ exp(−L(x) − gamma/2 |w − x|²) dx, which is low in wide valleys."""

from dataclasses import dataclass
from math import sqrt

import torch

from landscape.checks import integer_in, not_negative, positive, require
from landscape.training.rules.rule import Context, Rule, State, source_at, steps_done
from landscape.vectors import Vector, normal_like


def entropy_sgd(
    gamma: float = 0.03,
    steps: int = 5,
    *,
    lr: float = 0.1,
    alpha: float = 0.75,
    noise: float = 1e-4,
    scope: float = 0.0,
    seed: int = 0,
) -> Rule:
    """Entropy-SGD: the base steps towards the mean μ of a walk around w by Langevin dynamics.

    d = gamma_t (w − μ),  gamma_t = gamma (1 + scope)^t at step t of the training.  From x = μ = w, `steps` times:
    x ← x − lr (∇L(x) + gamma_t (x − w)) + sqrt(lr) noise z,  z normal;  μ ← (1 − alpha) μ + alpha x.

    So many passes a step, of one batch, where its authors draw a new batch for each. |d| is gamma times a length of a
    walk: the base wants a learning rate of the order of 1/gamma.

    Args:
        gamma: ties the walk to w, positive: a small one looks far around.
        steps: of the walk, at least 1.
        lr: of the walk, positive.
        alpha: share of the newest x in μ, in (0, 1].
        noise: at least 0.
        scope: growth of gamma a step, at least 0.
        seed: of z, at least 0; the global random state is neither read nor moved.
    Raises:
        ValueError: if an argument is out of range.
    Source: Chaudhari et al. 2017, arXiv:1611.01838, algorithm 1.
    """
    for name, value in {"gamma": gamma, "lr": lr}.items():
        positive(name, value)
    integer_in("steps", steps, 1)
    require(0 < alpha <= 1, f"alpha must be in (0, 1], got {alpha!r}")
    not_negative("noise", noise)
    not_negative("scope", scope)
    integer_in("seed", seed, 0)
    walk = _Walk(gamma, steps, lr, alpha, noise, scope, seed)
    return Rule("entropy_sgd", _count, walk, context=True)


def _count(_w: Vector, _g: Vector, state: State, _context: Context) -> tuple[None, State]:
    return None, {"step": steps_done(state) + 1}


@dataclass(frozen=True)
class _Walk:
    gamma: float
    steps: int
    lr: float
    alpha: float
    noise: float
    scope: float
    seed: int

    def __call__(self, g: Vector, _g_adv: Vector, state: State, context: Context) -> tuple[Vector, State]:
        step = steps_done(state) - 1
        gamma, source = self.gamma * (1 + self.scope) ** step, source_at(self.seed, step, g.device)
        away, mean = torch.zeros_like(g), torch.zeros_like(g)  # x − w, μ − w
        for i in range(self.steps):
            slope = context.gradient(away) if i else g
            away = away - self.lr * (slope + gamma * away)
            if self.noise:
                away.add_(normal_like(g, source), alpha=sqrt(self.lr) * self.noise)
            mean.lerp_(away, self.alpha)
        return mean.mul_(-gamma), state
