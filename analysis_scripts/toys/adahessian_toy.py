"""What the Hessian's moving average does for AdaHessian, on two functions whose minimum is known.

x² + 0.1 x sin(20πx) is a parabola with ripples whose curvature, up to 40π² · 0.1 |x|, drowns the parabola's own 2:
without an average (β₂ = 0) the step follows the ripple that it stands on. 10x² + y² has the Hessian diag(20, 2), which
one probe gives exactly: one step of lr 1 lands in the minimum, where gradient descent zigzags.
Source: Yao et al. 2021, arXiv:2006.00719, figure 3.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import pi
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import landscape as ls
from analysis_scripts._shared.claims import Claim
from analysis_scripts._shared.frame import command, publish
from landscape.plots.style import BLUE, OTHERS, RED, SMALL, legend_above

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Config:
    """What is computed; every number of the figure follows from it."""

    start: float = -1.0  # of the run that is drawn
    starts: int = 200  # further ones, evenly over [-1, 1]; even, so that 0 is none of them
    steps: int = 1000
    lrs: tuple[float, ...] = (1.0, 0.15)  # of a Newton step, and the reference setting
    beta2s: tuple[float, ...] = (0.999, 0.99, 0.9, 0.0)
    within: float = 0.01  # |x| that counts as found; the nearest ripple's minimum is at 0.07
    quadratic_start: tuple[float, float] = (1.0, 3.0)
    folder: str = "figures/adahessian_toy"


def rippled(x: Tensor) -> Tensor:
    """x² + 0.1 x sin(20πx), entry by entry."""
    return x**2 + 0.1 * x * torch.sin(20 * pi * x)


def long_valley(w: Tensor) -> Tensor:
    """10x² + y²."""
    return 10 * w[0] ** 2 + w[1] ** 2


def descend(f: Function, start: Tensor, steps: int, make: Callable[..., torch.optim.Optimizer]) -> Tensor:
    """The way of an optimiser over the sum of f, (steps + 1, n); AdaHessian keeps apart what f does not couple."""
    w = start.clone().requires_grad_()
    optimizer = make([w])
    path = [w.detach().clone()]
    for _ in range(steps):
        optimizer.zero_grad()
        (optimizer.backward if isinstance(optimizer, ls.AdaHessian) else Tensor.backward)(f(w).sum())
        optimizer.step()
        path.append(w.detach().clone())
    return torch.stack(path)


def first_stay(path: Tensor, within: float) -> Tensor:
    """The iteration from which on |x| stays below `within`, (n,); infinite where it does not."""
    outside = path.abs() >= within  # (steps + 1, n)
    last = torch.where(outside, torch.arange(len(path))[:, None], -1).max(0).values + 1
    return torch.where(outside[-1], torch.inf, last.double())


def main(config: Config) -> dict[str, Any]:
    """All runs, and the figure."""
    paths = rippled_runs(config)
    needed = {key: first_stay(path, config.within) for key, path in paths.items()}
    table = {
        key: {
            "share_in_7": float((own[1:] <= 7).double().mean()),
            "share_found": float(own[1:].isfinite().double().mean()),
            "iterations_from_start": float(own[0]),
            "end_from_start": float(paths[key][-1, 0]),
        }
        for key, own in needed.items()
    }
    start = torch.tensor(config.quadratic_start, dtype=torch.float64)
    ways = {
        "AdaHessian": descend(long_valley, start, 1, partial(ls.AdaHessian, lr=1.0, eps=0.0)),
        "gradient descent": descend(long_valley, start, 20, partial(torch.optim.SGD, lr=0.09)),
    }
    left = {name: float(way[-1].norm()) for name, way in ways.items()}
    found = {"rippled": table, "quadratic": left, "sentence": sentence(config)}
    arrays = ways | {f"drawn/{key}": path[:, 0] for key, path in paths.items()}
    arrays |= {f"end/{key}": path[-1] for key, path in paths.items()}
    figure = partial(draw, config, paths, ways)
    own = claims(config, table, left["AdaHessian"])
    return publish(config, "adahessian", found, figure, arrays=arrays, claims=own)


def rippled_runs(config: Config) -> dict[str, Tensor]:
    """The ways from all starts, (steps + 1, 1 + starts) each, the drawn one first."""
    starts = torch.tensor([config.start, *np.linspace(-1, 1, config.starts)], dtype=torch.float64)
    makes = {
        f"lr {lr:g}, β₂ {beta2:g}": partial(ls.AdaHessian, lr=lr, betas=(0.9, beta2))
        for lr, beta2 in product(config.lrs, config.beta2s)
    }
    return {name: descend(rippled, starts, config.steps, make) for name, make in makes.items()}


def sentence(config: Config) -> str:
    """Conditions."""
    return (
        f"AdaHessian, lr {config.lrs[0]:g}, β₁ = 0.9, from x = {config.start:g} on f = x² + 0.1 x sin(20πx), whose "
        "minimum is 0 (top and middle); on 10x² + y², lr 1, beside gradient descent of lr 0.09 (bottom). No noise."
    )


def claims(config: Config, table: dict[str, dict[str, float]], left: float) -> list[Claim]:
    """The paper's; its start is unknown, so that all starts of [-1, 1] count."""
    averaged, plain = (table[f"lr {config.lrs[0]:g}, β₂ {beta2:g}"] for beta2 in (max(config.beta2s), 0.0))
    caught, through = plain["end_from_start"], averaged["iterations_from_start"]
    return [
        Claim(
            "Yao et al. 2021, figure 1",
            "one step on 10x² + y², where gradient descent needs many",
            f"|w| = {left:.1g} after it",
            "agrees" if left < config.within else "differs",
        ),
        Claim(
            "Yao et al. 2021, figure 3",
            "without Hessian momentum it is caught by a ripple for 1,000 iterations",
            f"from x = {config.start:g} at {caught:.2f} after {config.steps}; {plain['share_found']:.0%} of "
            f"{config.starts} starts in [-1, 1] get through",
            "agrees" if abs(caught) > config.within else "differs",
        ),
        Claim(
            "Yao et al. 2021, figure 3",
            "with Hessian momentum it converges in 7 iterations",
            f"from x = {config.start:g} in {through:.0f} to |x| < {config.within:g}; of the {config.starts} starts "
            f"{averaged['share_in_7']:.0%} within 7, {averaged['share_found']:.0%} within {config.steps}",
            "agrees" if through <= 7 else "differs",
        ),
    ]


def draw(config: Config, paths: dict[str, Tensor], ways: dict[str, Tensor]) -> Figure:
    """The function with two runs over it; |x| over the iterations; the quadratic."""
    figure = Figure(figsize=(3.3, 7.2), layout="constrained")
    left, middle, right = figure.subplots(3, 1)
    grid = torch.linspace(-1.25, 1.25, 2000, dtype=torch.float64)
    left.plot(grid, rippled(grid), color="0.6", linewidth=0.8)
    looks = ((BLUE, "-", "o"), (OTHERS[0][0], "--", "D"), (OTHERS[1][0], "-.", "^"), (RED, ":", "s"))
    for beta2, (colour, line, mark) in zip(config.beta2s, looks, strict=False):
        path = paths[f"lr 1, β₂ {beta2:g}"][:, 0]
        label = f"β₂ = {beta2:g}"
        middle.plot(path.abs(), line, color=colour, linewidth=1.1, label=label)
        if beta2 in (max(config.beta2s), 0.0):
            left.plot(path, rippled(path), f"{mark}-", color=colour, mec="black", mew=0.3, ms=3.5, lw=0.8, label=label)
    left.set(xlabel="x", ylabel="f(x)", xlim=(-1.15, 0.6), ylim=(-0.08, 1.3), xticks=[-1, -0.5, 0, 0.5])
    middle.set(yscale="log", xscale="symlog", xlabel="iteration", ylabel="|x|", xlim=(0, config.steps), ylim=(1e-10, 2))
    for ax in (left, middle):
        legend_above(ax, columns=2)
    draw_valley(right, ways)
    return figure


def draw_valley(ax: Axes, ways: dict[str, Tensor]) -> None:
    """Contours of 10x² + y² and both ways down."""
    x, y = torch.meshgrid(torch.linspace(-1.2, 1.2, 81), torch.linspace(-1, 3.5, 81), indexing="xy")
    z, levels = long_valley(torch.stack([x, y])), [0.5, 2, 5, 10]
    lines = ax.contour(x, y, z, levels=levels, colors="0.6", linewidths=0.6)
    ax.clabel(lines, fontsize=SMALL - 1)
    for (name, way), (colour, line) in zip(ways.items(), ((BLUE, "o-"), (RED, "s:")), strict=True):
        ax.plot(*way.T, line, color=colour, markersize=3, linewidth=1, label=f"{name}, steps: {len(way) - 1}")
    ax.set(xlabel="x", ylabel="y")
    legend_above(ax, columns=1)


if __name__ == "__main__":
    command(main, Config)
