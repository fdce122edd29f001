"""GSAM's toy: does the surrogate gap h = f_p − f lead along a ridge, past sharp minima, where f_p alone does not?

A valley f = ½ a(y) (x² − ρ²), a = 5.5 + 4.5 cos(πy/4): the worst case in a disc around its floor x = 0 is f_p =
f + ½aρ² = 0 all along, while the gap h = ½aρ² falls with y; f has its minimum at the sharp end y = 0.
A ridge f = ½ (0.2 x² + 0.5 y²) − 0.4 Σ± exp(−(x ∓ 0.4)²/2s² − (y − 1)²/(2 · 0.3²)) between two sharp minima, which
leads down to a flat one at the origin; with s = 0.15 it falls all the way, with s = 0.25 there is a saddle on it.
Source: Zhuang et al. 2022, arXiv:2203.08065, sections 3.1 and 4.2, figure 3, whose function is not given.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import pi
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import landscape as ls
from analysis_scripts._shared.claims import Claim
from analysis_scripts._shared.frame import command, legend_over, publish
from analysis_scripts.toys.descent import Function, descend, gradient
from landscape.plots.style import BLUE, GREY, RED, SMALL, legend_above
from landscape.training.rules import Rule
from landscape.vectors import unit

SLOPING, SADDLE = 0.15, 0.25  # s
WELL, LENGTH = (0.4, 1.0), 0.3
ENDS = ("flat", "sharp", "saddle", "elsewhere")
LOOKS = ((GREY, ":"), (RED, "--"), (BLUE, "-"))


@dataclass(frozen=True)
class Config:
    """What is computed; every number of the figure follows from it."""

    rho: float = 0.2
    alphas: tuple[float, ...] = (0.4, 0.8)  # of GSAM; the first is the paper's, and drawn
    valley_starts: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 2.5)  # y, at x = 0.1
    starts: int = 20  # x above 0 and below the well's, at y = 2; those below 0 are their images
    drawn: int = 9  # of these
    lr: float = 0.05
    steps: int = 1500
    early: int = 400  # steps over which the distance from the ridge is taken
    folder: str = "figures/gsam_ridge"


def curvature(y: Tensor) -> Tensor:
    """a(y), across the valley."""
    return 5.5 + 4.5 * torch.cos(pi * y / 4)


def valley(w: Tensor, rho: float) -> Tensor:
    """½ a(y) (x² − ρ²), (..., 2) -> (...)."""
    return 0.5 * curvature(w[..., 1]) * (w[..., 0] ** 2 - rho**2)


def ridge(w: Tensor, s: float) -> Tensor:
    """Two wells of width s beside the way down, (..., 2) -> (...)."""
    x, y = w.unbind(-1)
    wells = sum(torch.exp(-((x - side * WELL[0]) ** 2) / (2 * s**2)) for side in (1, -1))
    return 0.1 * x**2 + 0.25 * y**2 - 0.4 * wells * torch.exp(-((y - WELL[1]) ** 2) / (2 * LENGTH**2))


def rules(config: Config) -> dict[str, Rule]:
    """Gradient descent is SAM of radius 0."""
    own = {f"GSAM, α = {alpha:g}": ls.rules.gsam(config.rho, alpha) for alpha in config.alphas}
    return {"GD": ls.rules.sam(0.0), "SAM": ls.rules.sam(config.rho), **own}


def all_runs(config: Config) -> dict[str, Tensor]:
    """The ways of every rule on the three functions, (steps + 1, starts, 2) each."""
    y = torch.tensor(config.valley_starts, dtype=torch.float64)
    x = torch.linspace(0, WELL[0], config.starts + 2, dtype=torch.float64)[1:-1]
    places: dict[str, tuple[Function, Tensor]] = {
        "valley": (partial(valley, rho=config.rho), torch.stack([torch.full_like(y, 0.1), y], 1))
    }
    for s in (SLOPING, SADDLE):
        places[f"ridge {s:g}"] = (partial(ridge, s=s), torch.stack([x, torch.full_like(x, 2.0)], 1))
    return {
        f"{place}, {name}": descend(f, rule, starts, steps=config.steps, lr=config.lr)
        for place, (f, starts) in places.items()
        for name, rule in rules(config).items()
    }


def perturbed(f: Function, w: Tensor, rho: float) -> Tensor:
    """f_p = f(w + ρĝ), as both rules have it."""
    g = gradient(f, w)
    return f(w + rho * torch.stack([unit(own) for own in g]))


def saddle(s: float, low: float = 0.5, high: float = 2.0) -> float | None:
    """y of the lowest point of the ridge x = 0 in between, or None where it falls all the way."""
    y = torch.linspace(low, high, 3001, dtype=torch.float64)
    at = int(ridge(torch.stack([torch.zeros_like(y), y], 1), s).argmin())
    return float(y[at]) if 0 < at < len(y) - 1 else None


def endings(path: Tensor, s: float, last: int = 200) -> list[str]:
    """Where each run circles at the end: by the mean of its last steps."""
    between = saddle(s)

    def name(x: float, y: float) -> str:
        if np.hypot(x, y) < 0.3:
            return "flat"
        if np.hypot((abs(x) - WELL[0]) / s, (y - WELL[1]) / LENGTH) < 1:
            return "sharp"
        return "saddle" if between is not None and np.hypot(x, y - between) < 0.1 else "elsewhere"

    return [name(*own) for own in path[-last:].mean(0).tolist()]


def main(config: Config) -> dict[str, Any]:
    """Run, and count where it ends."""
    paths = all_runs(config)
    floor = partial(valley, rho=config.rho)
    ends: dict[str, Any] = {"valley": {}, "f_p": {}, "gap": {}}
    for name in rules(config):
        pair = paths[f"valley, {name}"][-2:]  # SAM jumps from one side to the other
        worst = torch.stack([perturbed(floor, w, config.rho) for w in pair])
        ends["valley"][name] = pair[..., 1].mean(0).tolist()
        ends["f_p"][name] = worst.mean(0).tolist()
        ends["gap"][name] = (worst - floor(pair)).mean(0).tolist()
    for s in (SLOPING, SADDLE):
        ends[f"ridge {s:g}"] = {name: endings(paths[f"ridge {s:g}, {name}"], s) for name in rules(config)}
    near = {name: paths[f"ridge {SLOPING:g}, {name}"][: config.early, :, 0].abs().mean(0) for name in rules(config)}
    ends["distance"] = {name: own.tolist() for name, own in near.items()}
    content = {**ends, "sentence": sentence(config)}
    arrays = {key: own[:, config.drawn].float() for key, own in paths.items() if key.startswith(f"ridge {SLOPING:g}")}
    figure = partial(draw, config, paths, ends)
    return publish(config, "ridge", content, figure, arrays=arrays, claims=claims(config, ends))


def sentence(config: Config) -> str:
    """Conditions and marks."""
    return (
        f"Top: a valley on whose floor f_p is 0 everywhere; marks: where runs from {len(config.valley_starts)} starts "
        f"end. Middle: a ridge (x = 0) between sharp minima; the flat one is the star. Bottom: ends of {config.starts} "
        f"runs from y = 2, on this ridge and with wells of s = {SADDLE:g}, between which is a saddle. No momentum, no "
        f"noise, ρ = {config.rho:g}, lr {config.lr:g}, {config.steps:,} steps."
    )


def claims(config: Config, ends: dict[str, Any]) -> list[Claim]:
    """The paper's, start by start; nothing here is random."""
    paper, own = "Zhuang et al. 2022, section 4.2 and figure 3", f"GSAM, α = {config.alphas[0]:g}"
    count = {
        s: {name: [found.count(end) for end in ENDS] for name, found in ends[f"ridge {s:g}"].items()}
        for s in (SLOPING, SADDLE)
    }
    flat = {name: found[0] for name, found in count[SLOPING].items()}
    nearer = sum(a < b for a, b in zip(ends["distance"][own], ends["distance"]["SAM"], strict=True))
    near = {name: float(np.mean(found)) for name, found in ends["distance"].items()}
    pairs = [zip(ends[key][own], ends[key]["SAM"], strict=True) for key in ("gap", "f_p")]
    smaller, no_higher = (sum(a < b + 1e-12 for a, b in pair) for pair in pairs)
    gap, worst = ({name: float(np.mean(ends[key][name])) for name in (own, "SAM")} for key in ("gap", "f_p"))
    starts, valleys = config.starts, len(config.valley_starts)
    stay = {name: found[2] for name, found in count[SADDLE].items()}
    return [
        Claim(
            paper,
            "SGD and SAM fall into sharp minima, GSAM goes down the ridge to a flat one",
            f"the flat one is reached from {flat['GD']} of {starts} starts by GD, {flat['SAM']} by SAM, {flat[own]} by "
            f"{own}; where the ridge has a saddle {count[SADDLE][own][0]} reach it, {stay[own]} stay on "
            f"the saddle (SAM {stay['SAM']})",
            "agrees" if flat["GD"] < flat["SAM"] < flat[own] or flat["SAM"] < flat[own] else "differs",
        ),
        Claim(
            paper,
            "GSAM's way is closer to the ridge than SAM's",
            f"over the first {config.early} steps the mean |x| is {near[own]:.2f}, SAM's {near['SAM']:.2f}; smaller "
            f"from {nearer} of {starts} starts",
            "agrees" if near[own] < near["SAM"] else "differs",
        ),
        Claim(
            paper,
            "its ascent lowers h and does not raise f_p",
            f"in the valley h ends at {gap[own]:.3f} by {own}, {gap['SAM']:.3f} by SAM, lower from {smaller} of "
            f"{valleys} starts; f_p at {worst[own]:.3f} and {worst['SAM']:.3f}",
            "agrees" if smaller == no_higher == valleys else "differs",
        ),
    ]


def draw(config: Config, paths: dict[str, Tensor], ends: dict[str, Any]) -> Figure:
    """The valley's floor with the ends of runs; the ridge with three ways; shares of ends."""
    figure = Figure(figsize=(3.3, 7.0), layout="constrained")
    parts: Any = figure.subfigures(3, 1, height_ratios=(1, 1.25, 1))
    draw_floor(parts[0].subplots(), config, ends)
    draw_ways(parts[1].subplots(), config, paths)
    axes = parts[2].subplots(1, 2)
    draw_ends(axes, config, ends)
    legend_over(parts[2], axes[0], 4)
    return figure


def shown(config: Config) -> list[str]:
    """The rules of the two upper panels."""
    return ["GD", "SAM", f"GSAM, α = {config.alphas[0]:g}"]


def draw_floor(ax: Axes, config: Config, ends: dict[str, Any]) -> None:
    """f, f_p and the gap along the valley."""
    y = torch.linspace(0, 4, 100, dtype=torch.float64)
    gap = 0.5 * curvature(y) * config.rho**2
    ax.plot(y, -gap, color="black", linewidth=1.1, label="f on the floor")
    ax.plot(y, 0 * y, color="black", linewidth=1.1, linestyle="--", label="f_p = f + h")
    for name, (colour, _), mark in zip(shown(config), LOOKS, "osD", strict=True):
        at = torch.tensor(ends["valley"][name], dtype=torch.float64)
        ax.plot(at, -0.5 * curvature(at) * config.rho**2, mark, color=colour, mec="black", ms=5.5, label=name)
    ax.set(xlabel="y: sharp left, flat right", ylabel="loss", ylim=(-0.22, 0.04))
    legend_above(ax, columns=3)


def draw_ways(ax: Axes, config: Config, paths: dict[str, Tensor]) -> None:
    """Contours of the sloping ridge, and the ways from one start; a square where they begin, dots where they end."""
    x, y = torch.meshgrid(torch.linspace(-0.8, 0.8, 121), torch.linspace(-0.4, 2.2, 131), indexing="xy")
    z = ridge(torch.stack([x, y], -1), SLOPING)
    ax.contour(x, y, z, levels=np.linspace(-0.3, 1.2, 9), colors="0.7", linewidths=0.5, linestyles="solid")
    for name, (colour, line) in zip(shown(config), LOOKS, strict=True):
        way = paths[f"ridge {SLOPING:g}, {name}"][:, config.drawn]
        ax.plot(*way.T, line, color=colour, linewidth=1.2, label=name)
        ax.plot(*way[-200:].mean(0), "o", mfc=colour, mec="black", ms=5, zorder=5)
    ax.plot(*way[0], "s", mfc="white", mec="black", ms=5)
    ax.plot(0, 0, "*", mfc="white", mec="black", ms=11, zorder=4)
    for side in (-1, 1):
        ax.annotate("sharp", (side * (WELL[0] + 0.17), WELL[1] - 0.5), fontsize=SMALL, ha="center")
    ax.set(xlabel="x", ylabel="y")
    legend_above(ax, columns=3)


def draw_ends(axes: Sequence[Axes], config: Config, ends: dict[str, Any]) -> None:
    """One bar a rule, one panel a ridge: how many runs end where."""
    names = list(rules(config))
    looks = ((BLUE, ""), ("white", "////"), ("0.55", ""), ("white", ""))
    for ax, s in zip(axes, (SLOPING, SADDLE), strict=True):
        left = np.zeros(len(names))
        for end, (colour, hatch) in zip(ENDS, looks, strict=True):
            if not any(end in ends[f"ridge {other:g}"][name] for name in names for other in (SLOPING, SADDLE)):
                continue
            width = np.array([ends[f"ridge {s:g}"][name].count(end) for name in names], dtype=float)
            bars: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": "black", "linewidth": 0.5}
            ax.barh(names, width, left=left, label=end, **bars)
            left += width
        ax.invert_yaxis()
        ax.set(xlabel="runs", xlim=(0, config.starts))
        ax.set_title(f"s = {s:g}, {'saddle' if saddle(s) else 'no saddle'}", fontsize=SMALL)
    axes[1].set_yticklabels([])


if __name__ == "__main__":
    command(main, Config)
