"""Fisher SAM's toy: two minima over the parameters (μ, σ) of a Gaussian, one flat and one sharp and a little deeper.

L(μ, σ) = −log Σᵢ aᵢ exp(−KL(N(μ, σ²) ‖ N(mᵢ, sᵢ²)) / bᵢ²) with the paper's two components. Each rule looks for the
worst case in {w + radius · R u, |u| <= 1}: SAM in a disc, R = 1; ASAM in an ellipse by magnitude, R = diag(|μ|, |σ|);
exact-Fisher FSAM in eᵀFe <= γ², F = diag(1/σ², 2/σ²), so R = F^(−1/2). Heavy-ball descent with momentum and without.
Source: Kim et al. 2022, arXiv:2206.04920, section 3.1 and figures 1 to 3; (m, s, a, b) are not confirmed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

import landscape as ls
from analysis_scripts._shared.claims import Claim
from analysis_scripts._shared.frame import command, kept_tensors, legend_over, publish
from analysis_scripts.toys.descent import descend
from landscape.plots.style import BLUE, OTHERS, RED, SMALL
from landscape.training.rules import Rule
from landscape.vectors import unit

COMPONENTS = torch.tensor([[20.0, 30.0, 0.7, 1.8], [-20.0, 10.0, 0.3, 1.2]], dtype=torch.float64)  # m, s, a, b
Place = tuple[float, float]
Minima = dict[str, dict[str, Any]]
GUESSES: dict[str, Place] = {"flat": (20.0, 30.0), "sharp": (-17.0, 13.0)}
RULES: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {  # the radius' letter, and R's diagonal
    "SAM": ("ρ", torch.ones_like),
    "ASAM": ("ρ", torch.abs),
    "FSAM": ("γ", lambda w: w[1].abs() * torch.tensor([1.0, 0.5], dtype=w.dtype).sqrt()),
}
LOOKS = {"SAM": (RED, "--", "s"), "ASAM": (OTHERS[1][0], ":", "^"), "FSAM": (BLUE, "-", "o")}


@dataclass(frozen=True)
class Config:
    """What is computed; every number of the figure follows from it."""

    starts: tuple[float, ...] = (-40.0, -34.0, -28.0, -23.0, -18.0)  # μ, on the sharp minimum's side
    sigma: float = 34.0  # of these starts
    near_zero: tuple[float, ...] = (-6.0, -4.0, -2.0, -1.0)  # μ of further starts, where ASAM may not move it
    sigmas: tuple[float, ...] = (14.0, 18.0, 22.0, 26.0, 30.0, 34.0)  # of these
    drawn: tuple[Place, Place] = ((-28.0, 34.0), (-2.0, 22.0))
    lr: float = 20.0
    momenta: tuple[float, ...] = (0.9, 0.0)
    sam: tuple[float, ...] = (0.05, 8.0)  # radii; the first is drawn
    asam: tuple[float, ...] = (0.2, 0.5)
    fisher_sam: tuple[float, ...] = (0.2, 0.4)
    steps: int = 300
    folder: str = "figures/fisher_sam_toy"

    @property
    def radii(self) -> dict[str, tuple[float, ...]]:
        return {"SAM": self.sam, "ASAM": self.asam, "FSAM": self.fisher_sam}

    @property
    def places(self) -> dict[str, list[Place]]:
        """Groups of starts."""
        far = [(mu, self.sigma) for mu in self.starts]
        return {"far": far, "near zero": list(product(self.near_zero, self.sigmas)), "drawn": list(self.drawn)}


def divergence(mu: Tensor, sigma: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """KL(N(mu, sigma²) ‖ N(m, s²))."""
    return (s / sigma).log() + (sigma**2 + (mu - m) ** 2) / (2 * s**2) - 0.5


def loss(w: Tensor) -> Tensor:
    """L at each (μ, σ), (..., 2) -> (...)."""
    m, s, a, b = COMPONENTS.T
    return -torch.logsumexp(a.log() - divergence(w[..., :1], w[..., 1:], m, s) / b**2, -1)


class Gaussian(nn.Module):
    """The loss as a network of two parameters, whatever the data."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.gaussian = nn.Parameter(torch.tensor(place, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return loss(self.gaussian).expand(len(x))


def rule_of(name: str, radius: float) -> Rule:
    """e = radius R unit(R g), the first-order maximiser in the rule's neighbourhood."""
    root = RULES[name][1]

    def perturb(w: Tensor, g: Tensor, state: Any) -> tuple[Tensor, Any]:
        return radius * root(w) * unit(root(w) * g), state

    return Rule(name, perturb)


def minimum(guess: Place, steps: int = 15) -> dict[str, Any]:
    """Newton's method from a guess: where, how deep, and the Hessian's eigenvalues there."""
    datum = (torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    problem = ls.Problem(Gaussian(guess), lambda outputs, _: outputs.mean(), datum)
    w = problem.vector()
    for _ in range(steps):
        w = w - torch.linalg.solve(ls.hessian(problem, w=w).dense(), problem.gradient(w))
    curvature = torch.linalg.eigvalsh(ls.hessian(problem, w=w).dense())
    return {
        "place": w.tolist(),
        "loss": float(problem.loss(w)),
        "gradient_norm": float(problem.gradient(w).norm()),
        "eigenvalues": curvature.tolist(),
    }


def main(config: Config) -> dict[str, Any]:
    """Minima and runs."""
    minima = {name: minimum(guess) for name, guess in GUESSES.items()}
    paths = kept_tensors(Path(config.folder) / "runs", config, lambda: all_runs(config))
    places = {name: torch.tensor(own["place"]) for name, own in minima.items()}

    def ending(last: Tensor) -> str:  # SAM circles around its minimum
        return next((name for name, place in places.items() if float((last - place).norm()) < 3), "neither")

    groups = {name: len(own) for name, own in config.places.items()}
    ends: dict[str, dict[str, list[str]]] = {group: {} for group in groups}
    for name in (own for own in paths if not own.endswith("drawn")):
        for group, last in zip(groups, paths[name].split(list(groups.values())), strict=True):
            ends[group][name] = [ending(own) for own in last]
    found = {"minima": minima, "ends": ends, "sentence": sentence(config)}
    figure = partial(draw, config, minima, paths, ends)
    return publish(config, "fisher_sam", found, figure, claims=claims(config, minima, ends))


def key_of(name: str, radius: float, momentum: float) -> str:
    """Of a run."""
    return f"{name}, {RULES[name][0]} = {radius:g}, momentum {momentum:g}"


def all_runs(config: Config) -> dict[str, Tensor]:
    """By rule, radius and momentum: where all starts end, (starts, 2), and the drawn ways, (steps + 1, drawn, 2)."""
    starts = torch.tensor([place for group in config.places.values() for place in group], dtype=torch.float64)
    found: dict[str, Tensor] = {}
    for name, radii in config.radii.items():
        for radius, momentum in product(radii, config.momenta):
            rule = rule_of(name, radius)
            path = descend(loss, rule, starts, steps=config.steps, lr=config.lr, momentum=momentum).float()
            key = key_of(name, radius, momentum)
            found |= {key: path[-1], f"{key}, drawn": path[:, -len(config.drawn) :]}
    return found


def sentence(config: Config) -> str:
    """Conditions and marks."""
    first, second = config.drawn
    near = len(config.near_zero) * len(config.sigmas)
    radii = ", ".join(f"{name} {RULES[name][0]} = {own[0]:g}" for name, own in config.radii.items())
    return (
        f"Ways from ({first[0]:g}, {first[1]:g}) and "
        f"({second[0]:g}, {second[1]:g}), {radii}, a mark every 30 steps, with each rule's neighbourhood at the start "
        f"(square, which hides SAM's). lr {config.lr:g}, momentum "
        f"{config.momenta[0]:g}, {config.steps} steps. "
        f"Bottom: {len(config.starts)} starts of μ = {min(config.starts):g} to {max(config.starts):g}, "
        f"σ = {config.sigma:g} (far), and {near} of μ = {min(config.near_zero):g} "
        f"to {max(config.near_zero):g}, σ = {min(config.sigmas):g} to {max(config.sigmas):g} (near 0)."
    )


def claims(config: Config, minima: Minima, ends: dict[str, dict[str, list[str]]]) -> list[Claim]:
    """The paper's; nothing here is random."""
    fast, slow = config.momenta[0], config.momenta[-1]
    narrow, wide = config.radii["SAM"][0], config.radii["SAM"][-1]
    asam, fsam = (config.radii[name][0] for name in ("ASAM", "FSAM"))
    far = {key: found.count("flat") for key, found in ends["far"].items()}
    near = {key: found.count("flat") for key, found in ends["near zero"].items()}
    keys = {
        "fsam": key_of("FSAM", fsam, fast),
        "sam": key_of("SAM", narrow, fast),
        "wide": key_of("SAM", wide, fast),
        "slow": key_of("FSAM", fsam, slow),
        "asam": key_of("ASAM", asam, fast),
    }
    best = {name: max(near[key_of(name, radius, fast)] for radius in radii) for name, radii in config.radii.items()}
    flat, sharp = (minima[name] for name in ("flat", "sharp"))
    deeper = sharp["loss"] < flat["loss"] and min(sharp["eigenvalues"]) > max(flat["eigenvalues"])
    where = {name: f"({own['place'][0]:.1f}, {own['place'][1]:.1f})" for name, own in minima.items()}
    n, others = len(config.starts), len(ends["near zero"][keys["asam"]])
    return [
        Claim(
            "Kim et al. 2022, figures 1 to 3",
            "a flat minimum and a sharp, slightly deeper one",
            f"flat {where['flat']}, L = {flat['loss']:.3f}; sharp {where['sharp']}, L = {sharp['loss']:.3f}",
            "agrees" if deeper else "differs",
        ),
        Claim(
            "Kim et al. 2022, figures 1 to 3",
            "where σ is large FSAM explores enough to reach the flat minimum, SAM does not",
            f"from {far[keys['fsam']]} of {n} far starts by FSAM, γ = {fsam:g}, {far[keys['sam']]} by SAM, "
            f"ρ = {narrow:g}; but {far[keys['wide']]} by SAM, ρ = {wide:g}, and {far[keys['slow']]} by FSAM without "
            "momentum",
            "agrees" if far[keys["fsam"]] > far[keys["sam"]] else "differs",
        ),
        Claim(
            "Kim et al. 2022, figures 1 to 3",
            "where μ is near 0 ASAM moves it too little to reach the flat minimum, FSAM does not",
            f"from {best['ASAM']} of {others} starts near 0 by ASAM, {best['FSAM']} by FSAM, each at its better "
            f"radius ({near[keys['asam']]} and {near[keys['fsam']]} at those drawn)",
            "agrees" if best["FSAM"] > best["ASAM"] else "differs",
        ),
    ]


def draw(config: Config, minima: Minima, paths: dict[str, Tensor], ends: dict[str, Any]) -> Figure:
    """Ways with neighbourhoods from two starts, and how many starts reach the flat minimum."""
    figure = Figure(figsize=(3.3, 6.3), layout="constrained")
    parts: Any = figure.subfigures(3, 1, height_ratios=(1, 0.9, 1.2))
    for i, part in enumerate(parts[:2]):
        draw_ways(part.subplots(), config, minima, paths, i)
    legend_over(parts[0], parts[0].axes[0], 3)
    draw_counts(parts[2].subplots(1, 2, sharey=True), config, ends)
    legend_over(parts[2], parts[2].axes[0], 2)
    return figure


def draw_ways(ax: Axes, config: Config, minima: Minima, paths: dict[str, Tensor], which: int) -> None:
    """Contours, and of each rule the way and the neighbourhood at the start."""
    mu, sigma = torch.meshgrid(torch.linspace(-60, 60, 121), torch.linspace(4, 56, 105), indexing="xy")
    z, levels = loss(torch.stack([mu, sigma], -1).double()), [0.3, 0.4, 0.5, 0.7, 1.0, 1.5]
    ax.contour(mu, sigma, z, levels=levels, colors="0.7", linewidths=0.5)
    turn = torch.linspace(0, 2 * pi, 100, dtype=torch.float64)
    for name, (colour, line, mark) in LOOKS.items():
        radius = config.radii[name][0]
        way = paths[f"{key_of(name, radius, config.momenta[0])}, drawn"][:, which]
        start = way[0].double()
        around = start + radius * RULES[name][1](start) * torch.stack([turn.cos(), turn.sin()], 1)
        ax.plot(*around.T, line, color=colour, linewidth=1.6)
        ax.plot(*way.T, line, color=colour, linewidth=0.9, marker=mark, ms=3, markevery=30, label=name)
    ax.plot(*start, "s", mfc="white", mec="black", ms=4, zorder=5)
    for name, found in minima.items():
        ax.plot(*found["place"], marker="*", ms=9, mfc="white", mec="black", ls="", zorder=4)
        beside: dict[str, Any] = {"xytext": (7, -3), "textcoords": "offset points"}
        ax.annotate(name, found["place"], fontsize=SMALL, **beside)
    zoomed: dict[str, Any] = {"xlim": (-30, 26), "ylim": (5, 35)}
    ax.set(xlabel="μ", ylabel="σ", **zoomed if which else {"xlim": (-60, 60), "ylim": (4, 56)})


def draw_counts(axes: Any, config: Config, ends: dict[str, Any]) -> None:
    """One pair of bars a rule and radius: starts that end in the flat minimum, with momentum and without."""
    labels = [f"{name}, {radius:g}" for name, radii in config.radii.items() for radius in sorted(radii)]
    places = np.arange(len(labels))
    for ax, (group, title) in zip(axes, (("far", "far starts"), ("near zero", "starts near 0")), strict=True):
        for i, (momentum, hatch) in enumerate(zip(config.momenta, ("", "////"), strict=False)):
            keys = [key_of(n, r, momentum) for n, radii in config.radii.items() for r in sorted(radii)]
            counts = [ends[group][key].count("flat") for key in keys]
            look: dict[str, Any] = {
                "color": BLUE if not hatch else "white",
                "hatch": hatch,
                "edgecolor": "black",
                "linewidth": 0.5,
            }
            ax.barh(places + 0.4 * i - 0.2, counts, 0.38, label=f"momentum {momentum:g}", **look)
        ax.set(xlabel="runs to the flat one", xlim=(0, len(ends[group][keys[0]])))
        ax.set_title(title, fontsize=SMALL + 1)
    axes[0].set_yticks(places, labels, fontsize=SMALL)
    axes[0].invert_yaxis()


if __name__ == "__main__":
    command(main, Config)
