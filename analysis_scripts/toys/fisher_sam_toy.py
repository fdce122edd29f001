"""Fisher SAM's toy: two minima over the parameters (μ, σ) of a Gaussian, one flat and one sharp and a little deeper.

L(μ, σ) = −log Σᵢ aᵢ exp(−KL(N(μ, σ²) ‖ N(mᵢ, sᵢ²)) / bᵢ²) with the paper's two components. SAM looks for the worst
case in a disc, exact-Fisher FSAM in the ellipse eᵀFe <= γ², F = diag(1/σ², 2/σ²), which is wide where σ is large. Both
descend from several starts, with heavy-ball momentum and without it, at several radii.
Source: Kim et al. 2022, arXiv:2206.04920, section 3.1 and figures 1 to 3; (m, s, a, b) are not confirmed.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

import landscape as ls
from analysis_scripts._shared.frame import command, kept_tensors, publish
from landscape.plots import plot_slice_2d
from landscape.plots.style import BLUE, RED, SMALL, legend_above
from landscape.storage.results import Slice2D
from landscape.vectors import unit

COMPONENTS = torch.tensor([[20.0, 30.0, 0.7, 1.8], [-20.0, 10.0, 0.3, 1.2]], dtype=torch.float64)  # m, s, a, b
Place = tuple[float, float]
Minima = dict[str, dict[str, Any]]
GUESSES: dict[str, Place] = {"flat": (20.0, 30.0), "sharp": (-17.0, 13.0)}


@dataclass(frozen=True)
class Config:
    """What is computed; every number of the figure follows from it."""

    starts: tuple[float, ...] = (-40.0, -34.0, -28.0, -23.0, -18.0)  # μ
    sigma: float = 34.0  # of all starts
    lr: float = 20.0
    momenta: tuple[float, ...] = (0.9, 0.0)
    sam: tuple[float, ...] = (0.05, 2.0, 8.0)  # radii in units of μ and σ; the first is drawn
    fisher_sam: tuple[float, ...] = (0.2, 0.4)  # γ; the first is drawn
    steps: int = 300
    mu: tuple[float, float, int] = (-60.0, 60.0, 61)  # of the landscape
    sigmas: tuple[float, float, int] = (5.0, 60.0, 56)
    folder: str = "figures/fisher_sam_toy"


class Mixture(nn.Module):
    """The loss as a network of two parameters, whatever the data."""

    def __init__(self, mu: float, sigma: float) -> None:
        super().__init__()
        self.gaussian = nn.Parameter(torch.tensor([mu, sigma], dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        m, s, a, b = COMPONENTS.T
        mu, sigma = self.gaussian
        energy = divergence(mu, sigma, m, s) / b**2
        return -torch.logsumexp(a.log() - energy, 0).expand(len(x))


def divergence(mu: Tensor, sigma: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """KL(N(mu, sigma²) ‖ N(m, s²))."""
    return (s / sigma).log() + (sigma**2 + (mu - m) ** 2) / (2 * s**2) - 0.5


def mixture(mu: float, sigma: float) -> ls.Problem:
    """The toy's loss at this Gaussian."""
    datum = (torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    return ls.Problem(Mixture(mu, sigma), lambda outputs, _: outputs.mean(), datum)


def exact_fisher_sam(gamma: float) -> ls.rules.Rule:
    """FSAM with the Gaussian's own Fisher matrix: e = γ F⁻¹g / sqrt(g·F⁻¹g), F⁻¹ = diag(σ², σ²/2)."""

    def perturb(w: Tensor, g: Tensor, state: Any) -> tuple[Tensor, Any]:
        root = w[1].abs() * torch.tensor([1.0, 0.5], dtype=w.dtype).sqrt()  # F^(-1/2)
        return gamma * root * unit(root * g), state

    return ls.rules.Rule("exact_fisher_sam", perturb)


def minimum(guess: Place, steps: int = 15) -> dict[str, Any]:
    """Newton's method from a guess: where, how deep, and the Hessian's eigenvalues there."""
    problem = mixture(*guess)
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


def descend(config: Config, rule: ls.rules.Rule, momentum: float, start: Place) -> Tensor:
    """(μ, σ) before the first step and after each, (steps + 1, 2)."""
    problem = mixture(*start)
    model = problem.model
    base = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=momentum)
    optimizer = ls.SharpnessAware(base, rule, model=model)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = model(torch.zeros(1, 1)).mean()
        loss.backward()
        return loss

    path = [problem.vector()]
    for _ in range(config.steps):
        optimizer.step(closure)
        path.append(problem.vector())
    return torch.stack(path)


def main(config: Config) -> dict[str, Any]:
    """Minima, landscape and runs."""
    folder = Path(config.folder)
    minima = {name: minimum(guess) for name, guess in GUESSES.items()}
    paths = kept_tensors(folder / "runs", config, lambda: all_runs(config))
    places = {name: torch.tensor(own["place"], dtype=torch.float64) for name, own in minima.items()}

    def ending(last: Tensor) -> str:  # SAM circles around its minimum
        return next((name for name, place in places.items() if float((last - place).norm()) < 3), "neither")

    ends = {name: [ending(path[-1]) for path in own] for name, own in paths.items()}
    along, origin = torch.eye(2, dtype=torch.float64), mixture(0.0, 0.0)  # the plane through the origin
    surface = ls.slice_2d(origin, along[0], along[1], x=config.mu, y=config.sigmas, data={"toy's": origin.data})
    surface.save(folder / "landscape")
    found = {"minima": minima, "ends": ends, "sentence": sentence_of(config, minima, ends)}
    return publish(config, "fisher_sam", found, partial(draw, config, minima, surface, paths, ends))


def all_runs(config: Config) -> dict[str, Tensor]:
    """The ways of every rule and momentum from all starts, (starts, steps + 1, 2) each, float32 to be small."""
    rules = {f"SAM, ρ = {rho:g}": ls.rules.sam(rho) for rho in config.sam}
    rules |= {f"FSAM, γ = {gamma:g}": exact_fisher_sam(gamma) for gamma in config.fisher_sam}
    return {
        f"{name}, momentum {momentum:g}": torch.stack(
            [descend(config, rule, momentum, (mu, config.sigma)) for mu in config.starts]
        ).float()
        for name, rule in rules.items()
        for momentum in config.momenta
    }


def sentence_of(config: Config, minima: Minima, ends: dict[str, list[str]]) -> str:
    """What agrees with the paper and what does not."""
    gamma, rho, wide = f"FSAM, γ = {config.fisher_sam[0]:g}", *(f"SAM, ρ = {config.sam[i]:g}" for i in (0, -1))
    fast, slow = (f", momentum {momentum:g}" for momentum in config.momenta)
    to_flat = {key: f"{found.count('flat') / len(found):.0%}" for key, found in ends.items()}
    where = {
        name: f"({own['place'][0]:.1f}, {own['place'][1]:.1f}), loss {own['loss']:.3f}" for name, own in minima.items()
    }
    return (
        f"Agrees: a flat minimum at {where['flat']}, a sharp, slightly deeper one at {where['sharp']}; of "
        f"{len(config.starts)} starts{fast}, {to_flat[gamma + fast]} end in the flat one by {gamma}, "
        f"{to_flat[rho + fast]} by {rho}. Differs: without momentum {gamma} takes {to_flat[gamma + slow]} there; and "
        f"{wide}, about as wide as the ellipse at the start, takes {to_flat[wide + fast]} with it: the radius decides, "
        "not the metric alone."
    )


def draw(
    config: Config, minima: Minima, surface: Slice2D, paths: dict[str, Tensor], ends: dict[str, list[str]]
) -> Figure:
    """A row for each momentum: SAM's runs, FSAM's, and the share of starts that reach the flat minimum."""
    figure = Figure(figsize=(10.4, 6.6), layout="constrained")
    axes = figure.subplots(len(config.momenta), 3, width_ratios=(1, 1, 0.75), squeeze=False)
    drawn = (f"SAM, ρ = {config.sam[0]:g}", f"FSAM, γ = {config.fisher_sam[0]:g}")
    for row, momentum in zip(axes, config.momenta, strict=True):
        for ax, name in zip(row, drawn, strict=False):
            title = f"{name}, momentum {momentum:g}"
            draw_runs(ax, config, minima, surface, paths[title])
            ax.set_title(title, fontsize=9)
        suffix = f", momentum {momentum:g}"
        draw_shares(row[2], {key.removesuffix(suffix): own for key, own in ends.items() if key.endswith(suffix)})
    return figure


def draw_runs(ax: Axes, config: Config, minima: Minima, surface: Slice2D, paths: Tensor) -> None:
    """Runs over the contours; a square at each start, a dot at each end, stars at the minima."""
    plot_slice_2d(surface, "toy's", ax)
    for path in paths:
        ax.plot(*path.T, color="white", linewidth=1.0, alpha=0.9)
        ax.plot(*path[0], "s", mfc="white", mec="black", ms=3.5)
        ax.plot(*path[-1], "o", mfc=RED, mec="black", ms=5, zorder=5)
    for name, found in minima.items():
        ax.plot(*found["place"], marker="*", ms=11, mfc="white", mec="black", ls="", zorder=4)
        below: dict[str, Any] = {"xytext": (0, -13), "textcoords": "offset points", "ha": "center"}
        ax.annotate(name, found["place"], fontsize=SMALL, color="white", **below)
    ax.set(xlabel="μ", ylabel="σ", xlim=config.mu[:2], ylim=config.sigmas[:2])


def draw_shares(ax: Axes, ends: dict[str, list[str]]) -> None:
    """One bar a radius: how many starts ended in the flat, the sharp and neither minimum."""
    left = np.zeros(len(ends))
    for name, colour in (("flat", BLUE), ("sharp", RED), ("neither", "0.8")):
        width = np.array([found.count(name) / len(found) for found in ends.values()])
        ax.barh(list(ends), width, left=left, color=colour, label=name, height=0.7)
        left += width
    ax.invert_yaxis()
    ax.set(xlabel="share of starts by where they end", xlim=(0, 1))
    legend_above(ax, columns=3)


if __name__ == "__main__":
    command(main, Config)
