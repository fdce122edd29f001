"""How fast do natural gradient and gradient descent converge on a quadratic with noise? Simulated and in closed form.

h(θ) = ½ (θ − θ*)ᵀH(θ − θ*): linear regression on a fixed design of N inputs, whose labels are drawn anew at each step;
so the Hessian H is the Fisher matrix F and the gradient's covariance is Σ = H / N everywhere. With
θ ← θ − α_k P g, P = F⁻¹ or 1, each eigenvalue λ of H (p of P) keeps a mean m and a variance v of its own,
m ← (1 − αpλ) m,  v ← (1 − αpλ)² v + α²p²λ/N,  E h = ½ Σ λ (m² + v), which the dots of the figure follow. From this,
P = F⁻¹, α = 1/k: E h = tr(H⁻¹Σ)/(2k) = n/(2Nk) from the first step on, which no unbiased estimator goes below;
P = F⁻¹, α fixed: E h → αn/(2N(2 − α));
P = 1, α = c/k: as k^(−2cλ_min) where 2cλ_min < 1, else (1/2Nk) Σ (cλ)²/(2cλ − 1) with c the same for all λ;
the mean of all θ of a fixed α < 2/(pλ): E h → n/(2Nk) for any P, once the start, (θ₀ − θ*)ᵀ(PHP)⁻¹(θ₀ − θ*)/(2α²k²), is
forgotten.
Source: Martens 2020, "New insights and perspectives on the natural gradient method", section 14 (its claims in
short: the formulas here are derived, not copied); Amari 1998, "Natural gradient works efficiently in learning".
"""

from dataclasses import dataclass
from functools import partial
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

import landscape as ls
from analysis_scripts._shared.claims import Claim, said
from analysis_scripts._shared.frame import command, kept_tensors, publish
from analysis_scripts._shared.over_seeds import interval, lies_in
from landscape.plots.style import BLUE, RED, legend_above


@dataclass(frozen=True)
class Config:
    """What is computed; every number of the figure follows from it."""

    size: int = 8  # n, parameters
    samples: int = 16  # N, labels of a step
    smallest: float = 1 / 30  # eigenvalue of H; the others rise evenly in logarithms to 1
    fixed: float = 0.5  # α of the fixed steps
    steps: int = 20_000
    runs: int = 1600
    groups: int = 40  # of runs: what is kept of them are the groups' means, which give the intervals
    close: float = 0.1  # a ratio of 1 ± this counts as 1
    folder: str = "figures/natural_gradient_convergence"


class Run(NamedTuple):
    """P, α_k = step/(k + delay) or step, and whether the mean of all θ is looked at."""

    natural: bool
    step: float
    delay: float | None = None  # None: fixed
    averaged: bool = False

    def lr(self, k: int) -> float:
        return self.step if self.delay is None else self.step / (k + self.delay)


def runs_of(config: Config) -> dict[str, Run]:
    """By label; the delay keeps the first α of gradient descent at 1/λ_max = 1."""
    slow = 1 / config.smallest
    return {
        "F⁻¹, α = 1/k": Run(True, 1.0, 0.0),
        "1, α = 1/k": Run(False, 1.0, 0.0),
        f"1, α = {slow:.0f}/(k + {slow - 1:.0f})": Run(False, slow, slow - 1),
        f"F⁻¹, α = {config.fixed:g}": Run(True, config.fixed),
        f"F⁻¹, α = {config.fixed:g}, mean of θ": Run(True, config.fixed, averaged=True),
        f"1, α = {config.fixed:g}, mean of θ": Run(False, config.fixed, averaged=True),
    }


def regression(config: Config) -> ls.Problem:
    """−log N(y; xᵀθ, 1) at θ = 0 up to a constant, of a design whose XᵀX/N has the eigenvalues; true labels are Xθ*."""
    source = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=source, dtype=torch.float64)
    left, right = (torch.linalg.qr(draw(rows, config.size)).Q for rows in (config.samples, config.size))
    values = torch.logspace(np.log10(config.smallest), 0, config.size, dtype=torch.float64)
    x = sqrt(config.samples) * left * values.sqrt() @ right.T  # (N, n)
    model = nn.Linear(config.size, 1, bias=False).double()
    nn.init.zeros_(model.weight)
    data = (x, x @ right.sum(1, keepdim=True))  # θ* is 1 along each eigenvector
    return ls.Problem(model, F.mse_loss, data, forward=lambda model, x: model(x) / sqrt(2))


def simulate(config: Config, H: Tensor, start: Tensor, run: Run, seed: int) -> Tensor:
    """h at the steps of `grid`, a mean a group of runs, (groups, len(grid)), with θ* at 0."""
    source = torch.Generator().manual_seed(seed)
    P = torch.linalg.inv(H) if run.natural else torch.eye(len(H), dtype=H.dtype)
    noise = torch.linalg.cholesky(H / config.samples)
    theta = start.expand(config.runs, -1).clone()
    total, found, kept = torch.zeros_like(theta), [], set(grid(config).tolist())
    for k in range(1, config.steps + 1):
        z = torch.randn(theta.shape, generator=source, dtype=H.dtype)
        theta = theta - run.lr(k) * (theta @ H + z @ noise.T) @ P
        total += theta
        if k in kept:
            own = total / k if run.averaged else theta
            found.append((0.5 * ((own @ H) * own).sum(1)).view(config.groups, -1).mean(1))
    return torch.stack(found, 1)


def expected(config: Config, values: Tensor, start: Tensor, run: Run) -> Tensor:
    """E h at the steps of `grid`, from the means and variances along the eigenvectors; start: along them, too."""
    m, p = start.clone(), 1 / values if run.natural else torch.ones_like(values)
    v, total, spread, both = torch.zeros(4, len(m), dtype=m.dtype).unbind()  # of θ; mean, variance, covariance of sums
    found, kept = [], set(grid(config).tolist())
    for k in range(1, config.steps + 1):
        a = 1 - run.lr(k) * p * values
        m, v = a * m, a**2 * v + run.lr(k) ** 2 * p**2 * values / config.samples
        total, spread, both = total + m, spread + 2 * a * both + v, a * both + v
        if k in kept:
            square = (total**2 + spread) / k**2 if run.averaged else m**2 + v
            found.append(0.5 * values @ square)
    return torch.stack(found)


def grid(config: Config, points: int = 60) -> np.ndarray[Any, Any]:
    """Steps that are looked at, evenly in logarithms."""
    return np.unique(np.geomspace(1, config.steps, points).round().astype(int))


def main(config: Config) -> dict[str, Any]:
    """Simulate, compute, compare."""
    problem, runs = regression(config), runs_of(config)
    H, fisher = ls.hessian(problem).dense(), ls.fisher(problem).dense()
    optimum = torch.linalg.solve(H, -problem.gradient(torch.zeros(config.size, dtype=torch.float64)))
    values, vectors = torch.linalg.eigh(H)

    def compute() -> dict[str, Tensor]:
        return {label: simulate(config, fisher, -optimum, run, seed) for seed, (label, run) in enumerate(runs.items())}

    h = kept_tensors(Path(config.folder) / "runs", config, compute)
    exact = {label: expected(config, values, -optimum @ vectors, run) for label, run in runs.items()}
    found = numbers(config, h, exact) | {"fisher_minus_hessian": float((fisher - H).abs().max())}
    content = found | {"sentence": sentence(config, found)}
    figure = partial(draw, config, h, exact)
    return publish(config, "convergence", content, figure, arrays=exact, claims=claims(config, found))


def numbers(config: Config, h: dict[str, Tensor], exact: dict[str, Tensor]) -> dict[str, Any]:
    """Ratios to the closed forms, exponents, and when the least possible error is near."""
    k = torch.from_numpy(grid(config))
    least = config.size / (2 * config.samples * k)  # n/(2Nk)
    late = k > config.steps / 10
    plateau = config.fixed * config.size / (2 * config.samples * (2 - config.fixed))
    labels = list(h)
    falls = {}
    for label in labels[:3]:  # slope of log E h over log k in the last decade, group by group
        means = h[label][:, late].log().numpy()
        falls[label] = interval([float(np.polyfit(k[late].log().numpy(), own, 1)[0]) for own in means])
    return {
        "of_least_at_end": {label: interval((own[:, -1] / least[-1]).tolist()) for label, own in h.items()},
        "of_plateau": interval((h[labels[3]][:, late].mean(1) / plateau).tolist()),
        "exponents": falls,
        "steps_to_twice_the_least": {label: first_stay(k, exact[label], 2 * least) for label in labels},
        "from_closed_form": max(float((h[label].mean(0) / exact[label] - 1)[late].abs().max()) for label in labels),
    }


def first_stay(k: Tensor, own: Tensor, bound: Tensor) -> float:
    """The first step on the grid from which on `own` stays below the bound; infinite where it does not."""
    above = (own > bound).nonzero()
    at = int(above[-1]) + 1 if len(above) else 0
    return float(k[at]) if at < len(k) else float("inf")


def sentence(config: Config, found: dict[str, Any]) -> str:
    """Conditions, and what the lines are."""
    return (
        f"Linear regression, n = {config.size} parameters, N = {config.samples} fresh labels a step, eigenvalues "
        f"{config.smallest:.3f} to 1; F = H. Lines: mean of {config.runs} runs; "
        f"dots: closed form (apart by at most {found['from_closed_form']:.0%} in the last decade); grey: n/(2Nk)."
    )


def claims(config: Config, found: dict[str, Any]) -> list[Claim]:
    """The paper's, on this quadratic."""
    paper, labels = "Martens 2020, section 14", list(found["of_least_at_end"])
    low, high = 1 - config.close, 1 + config.close
    ends, falls, until = (found[key] for key in ("of_least_at_end", "exponents", "steps_to_twice_the_least"))
    natural, plain = (ends[label] for label in labels[4:])
    both = [lies_in(own, low, high) for own in (natural, plain)]
    slow = falls[labels[1]]
    return [
        Claim(
            paper,
            "natural gradient with α = 1/k is Fisher-efficient, E h = tr(H⁻¹Σ)/(2k)",
            f"{said(ends[labels[0]])} of it after {config.steps:,} steps",
            lies_in(ends[labels[0]], low, high),
        ),
        Claim(
            paper,
            "with α = 1/k and a smallest eigenvalue below ½, gradient descent falls slower than 1/k",
            f"like k^{said(slow, 3)}; with {labels[2].split(', ')[1]} like k^{said(falls[labels[2]])}, at "
            f"{ends[labels[2]][0]:.1f} times tr(H⁻¹Σ)/(2k)",
            lies_in(slow, -0.999, float("inf")),
        ),
        Claim(
            paper,
            "a fixed α ends in noise, for F⁻¹ at E h = αn/(2N(2 − α))",
            f"{said(found['of_plateau'])} of it",
            lies_in(found["of_plateau"], low, high),
        ),
        Claim(
            paper,
            "the mean of all θ of a fixed α has tr(H⁻¹Σ)/(2k) in the limit, with F⁻¹ or without",
            f"{said(natural)} with F⁻¹, {said(plain)} without",
            both[0] if both[0] == both[1] else "cannot say",
        ),
        Claim(
            paper,
            "before that limit the curvature matrix decides",
            f"within twice tr(H⁻¹Σ)/(2k) from step {until[labels[4]]:.0f} on with F⁻¹, {until[labels[5]]:,.0f} without",
            "agrees" if 2 * until[labels[4]] < until[labels[5]] else "differs",
        ),
    ]


def draw(config: Config, h: dict[str, Tensor], exact: dict[str, Tensor]) -> Figure:
    """E h of falling steps above, of fixed ones and their means below."""
    figure = Figure(figsize=(3.3, 7.2), layout="constrained")
    labels = list(h)
    for ax, own in zip(figure.subplots(2, 1, sharex=True), (labels[:3], labels[3:]), strict=True):
        draw_runs(ax, config, {label: (h[label].mean(0), exact[label]) for label in own})
    ax.set_xlabel("step k")
    return figure


def draw_runs(ax: Axes, config: Config, runs: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Means as lines, closed forms as dots of every third step of the grid, n/(2Nk) in grey."""
    k = grid(config)
    ax.plot(k, config.size / (2 * config.samples * k), color="0.75", linewidth=4, zorder=0)
    looks = ((BLUE, "-", "o"), (RED, "--", "s"), ("black", ":", "^"))
    for (label, (mean, exact)), (colour, line, mark) in zip(runs.items(), looks, strict=True):
        ax.plot(k, mean, line, color=colour, linewidth=1.1)
        ax.plot(k[::4], exact[::4], mark, color=colour, markersize=2.8)
        ax.plot([], [], line, marker=mark, color=colour, markersize=2.8, linewidth=1.1, label=f"P = {label}")
    ax.set(xscale="log", yscale="log", ylabel="E h, nats")
    legend_above(ax, columns=1)


if __name__ == "__main__":
    command(main, Config)
