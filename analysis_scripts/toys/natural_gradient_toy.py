"""Which Fisher matrix belongs into the natural gradient? One parameter, one datum, everything in closed form.

Model N(θ, 1), datum 0, so that h(θ) = θ²/2, ∇h = θ, the Fisher matrix F = 1 and the empirical one F̄ = θ². The steps
θ ← θ − α_k C⁻ᵖ ∇h converge linearly, by |1 − α| a step, for C = F and fixed α in (0, 2). For C = F̄ and ½ <= p <= 1 no
fixed α converges, and a falling one only for p < 1 and at its own pace.
Source: Martens 2020, "New insights and perspectives on the natural gradient method", section 11.
"""

from dataclasses import dataclass
from functools import partial
from math import sqrt
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

import landscape as ls
from analysis_scripts._shared.claims import Claim
from analysis_scripts._shared.frame import command, publish
from landscape.plots.style import BLUE, GREY, OTHERS, RED, legend_above
from landscape.storage.results import standard_error


@dataclass(frozen=True)
class Config:
    """What is computed; every number of the figure follows from it."""

    start: float = 1.0
    lr: float = 0.3  # no divisor of start: the steps of p = ½ would hit 0 by accident
    steps: int = 400
    thetas: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
    draws: int = 400  # of the sampled Fisher matrix, for its mean
    folder: str = "figures/natural_gradient_toy"


@dataclass(frozen=True)
class Run:
    """One way down: the matrix, its power p, and α_k = lr (k + 1)^-decay."""

    label: str
    kind: str
    power: float
    decay: float
    look: tuple[str, str, str]  # colour, line style and mark


RUNS = (
    Run("F, fixed α", "exact", 1.0, 0.0, (BLUE, "-", "")),
    Run("F̄, p = 1, fixed α", "empirical", 1.0, 0.0, (OTHERS[0][0], "-", "s")),
    Run("F̄, p = ½, fixed α", "empirical", 0.5, 0.0, (RED, "-", "o")),
    Run("F̄, p = 1, α / k", "empirical", 1.0, 1.0, (OTHERS[0][0], ":", "s")),
    Run("F̄, p = ½, α / √k", "empirical", 0.5, 0.5, (RED, "--", "o")),
    Run("F̄, p = ½, α / k", "empirical", 0.5, 1.0, (RED, ":", "o")),
)


def gaussian(theta: float) -> ls.Problem:
    """−log N(0; θ, 1) up to a constant: mean squared error is that of variance ½, so the output is divided by √2."""
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, theta)
    datum = (torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64))
    return ls.Problem(model, F.mse_loss, datum, forward=lambda model, x: model(x) / sqrt(2))


def descend(problem: ls.Problem, run: Run, config: Config) -> Tensor:
    """θ before the first step and after each, (steps + 1,); it stays where the gradient is 0."""
    w, path = problem.vector(), []
    for k in range(config.steps):
        path.append(w)
        g = problem.gradient(w)
        if bool(g.any()):
            lr = config.lr * (k + 1) ** -run.decay
            w = w - lr * g / ls.fisher(problem, run.kind, w=w).dense()[0] ** run.power
    return torch.cat([*path, w])


def matrices(config: Config) -> dict[str, Tensor]:
    """The three kinds of Fisher matrix at each θ, (n,); the sampled one as a mean over draws with its error."""
    problems = [gaussian(theta) for theta in config.thetas]
    found = {
        kind: torch.stack([ls.fisher(problem, kind).dense()[0, 0] for problem in problems])
        for kind in ("exact", "empirical")
    }
    source = torch.Generator().manual_seed(0)
    draws = [ls.fisher(own, "sampled", generator=source).dense()[0, 0] for _ in range(config.draws) for own in problems]
    sampled = torch.stack(draws).view(config.draws, -1)
    return {**found, "sampled": sampled.mean(0), "sampled_stderr": standard_error(sampled)}


def exponent(path: Tensor) -> float:
    """The slope of log (|θ_k| + |θ_k+1|) over log k in the second half: two steps on either side of 0 add up to α_k."""
    sizes = path.abs()
    half = len(path) // 2
    k = np.log(np.arange(half, len(path) - 1) + 1)
    return float(np.polyfit(k, (sizes[:-1] + sizes[1:])[half:].log().numpy(), 1)[0])


def main(config: Config) -> dict[str, Any]:
    """Matrices and runs."""
    fishers = matrices(config)
    problem = gaussian(config.start)
    paths = {run.label: descend(problem, run, config) for run in RUNS}
    arrays = {"theta": config.thetas, **fishers, **paths}
    found, figure = summary(config, fishers, paths), partial(draw, config, fishers, paths)
    return publish(config, "natural_gradient", found, figure, arrays=arrays, claims=claims(config, found))


def summary(config: Config, fishers: dict[str, Tensor], paths: dict[str, Tensor]) -> dict[str, Any]:
    """How far the numbers are from the closed forms, and the sentence."""
    theta = torch.tensor(config.thetas, dtype=torch.float64)
    exact = paths["F, fixed α"]
    used = exact.abs() > 1e-290  # above what float64 can still divide
    ratios = (exact[1:] / exact[:-1])[used[1:]]
    tails = {label: float(path[len(path) // 2 :].abs().max()) for label, path in paths.items()}
    slopes = {run.label: exponent(paths[run.label]) for run in RUNS if run.decay and run.power < 1}
    apart = {
        "exact": fishers["exact"] - 1,
        "empirical": fishers["empirical"] - theta**2,
        "rate": ratios - (1 - config.lr),
    }
    found: dict[str, Any] = {f"error_of_{name}": float(own.abs().max()) for name, own in apart.items()}
    sentence = (
        f"Model N(θ, 1), datum 0, start θ = {config.start:g}, α = {config.lr:g}. Top: curvature matrices at θ, "
        f"sampled F as the mean of {config.draws} draws with 95 %. Middle, bottom: |θ| under θ ← θ − α_k C⁻ᵖ θ without "
        "noise; bottom: before and after a step together, since runs jump from side to side."
    )
    return {**found, "largest_in_second_half": tails, "exponents": slopes, "sentence": sentence}


def claims(config: Config, found: dict[str, Any]) -> list[Claim]:
    """The paper's, in exact arithmetic but for rounding."""
    paper, tails, slopes = "Martens 2020, section 11.1", found["largest_in_second_half"], found["exponents"]
    matrices = max(found["error_of_exact"], found["error_of_empirical"])
    stuck = [tails[run.label] for run in RUNS if run.kind == "empirical" and not run.decay]
    powers = {run.label: -run.decay for run in RUNS if run.label in slopes}
    off = max(abs(slopes[label] - power) for label, power in powers.items())
    told = " and ".join(f"k^{slopes[label]:.2f} ({label.split(', ')[-1]})" for label in slopes)
    last = tails["F̄, p = 1, α / k"]
    return [
        Claim(paper, "F = 1, F̄ = θ²", f"to {matrices:.0e}", "agrees" if matrices < 1e-9 else "differs"),
        Claim(
            paper,
            "with F and a fixed α |θ| falls linearly, by |1 − α| a step",
            f"rate off by {found['error_of_rate']:.0e}",
            "agrees" if found["error_of_rate"] < 1e-9 else "differs",
        ),
        Claim(
            paper,
            "with F̄ and a fixed α θ does not converge",
            f"|θ| still reaches {min(stuck):.2g} (p = ½) and {max(stuck):.2g} (p = 1) in the second half",
            "agrees" if min(stuck) > config.lr / 10 else "differs",
        ),
        Claim(
            paper,
            "with F̄, p < 1, and a falling α it does, only as fast as α",
            f"p = ½: like {told}",
            "agrees" if off < 0.1 else "differs",
        ),
        Claim(
            paper,
            "with F̄ and p = 1 not even then",
            f"|θ| reaches {last:.2g} with α / k",
            "agrees" if last > config.lr / 10 else "differs",
        ),
    ]


def draw(config: Config, fishers: dict[str, Tensor], paths: dict[str, Tensor]) -> Figure:
    """The matrices over θ; |θ| over the first steps; the way between two steps over all of them."""
    figure = Figure(figsize=(3.3, 7.0), layout="constrained")
    left, middle, right = figure.subplots(3, 1)
    draw_matrices(left, config, fishers)
    for run in RUNS:
        sizes = paths[run.label].abs().numpy()
        look = dict(zip(("color", "linestyle", "marker"), run.look, strict=True)) | {"markersize": 3, "linewidth": 1.1}
        if not run.decay:
            middle.plot(sizes[:51], label=run.label, markevery=5, **look)
        if run.kind == "empirical":
            both = sizes[:-1] + sizes[1:]
            right.plot(np.arange(1, len(sizes)), both, label=run.label, markevery=0.11, **look)
    middle.set(yscale="log", xlabel="step k", ylabel="|θ|", ylim=(1e-8, 1e2))
    right.set(xscale="log", yscale="log", xlabel="step k", ylabel="|θ| before + after")
    legend_above(middle, columns=2)
    legend_above(right, columns=2)
    return figure


def draw_matrices(ax: Axes, config: Config, fishers: dict[str, Tensor]) -> None:
    """F of all kinds with the closed forms behind them."""
    grid = np.linspace(0, max(config.thetas), 100)
    ax.plot(grid, np.ones_like(grid), color=BLUE, linewidth=1, label="1")
    ax.plot(grid, grid**2, color=RED, linewidth=1, linestyle="--", label="θ²")
    for kind, colour, mark in (("exact", BLUE, "o"), ("empirical", RED, "^")):
        ax.plot(config.thetas, fishers[kind].numpy(), mark, color=colour, markersize=4, label=f"{kind} F")
    middle, bars = fishers["sampled"].numpy(), 1.96 * fishers["sampled_stderr"].numpy()
    label = "sampled F"
    ax.errorbar(config.thetas, middle, bars, fmt="s", color=GREY, markersize=3, elinewidth=0.8, label=label)
    ax.set(xlabel="θ", ylabel="curvature matrix")
    legend_above(ax, columns=2)


if __name__ == "__main__":
    command(main, Config)
