"""The Hessian's spectrum along a training with SGD and with SAM.

At several epochs, on the first training images: the density of the eigenvalues by stochastic Lanczos quadrature, the
five largest found one by one, and the root mean square of all. A network without norms, as in the paper.
Source of the claims: Foret et al. 2021, arXiv:2010.01412, section 4.2 and figure 3 (left): with SAM the largest
eigenvalue at convergence, its ratio to the fifth, and the eigenvalues at large are smaller.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

import landscape as ls
from analysis_scripts._shared.claims import Claim, points
from analysis_scripts._shared.digits_steps import DigitsTraining, on_first, steps
from analysis_scripts._shared.frame import Arrays, command, kept, publish
from analysis_scripts._shared.over_seeds import difference, interval, verdict
from landscape.data import digits
from landscape.models import build
from landscape.plots import plot_density
from landscape.plots.style import SMALL
from landscape.storage.results import SpectralDensity

RULES = {"sgd": "SGD", "sam": "SAM"}
QUANTITIES = {"lambda_max": "λmax", "ratio": "λmax/λ5", "spread": "root mean square of all eigenvalues"}
LOOKS = 2  # at the differences: λmax/λ5 was open with 5 seeds, [−.76, .06], and the seeds were doubled


@dataclass(frozen=True)
class Config(DigitsTraining):
    """What is trained; every number of the figure follows from it."""

    rho: float = 0.1
    width: int = 4
    at: tuple[int, ...] = (1, 5, 15, 40)  # epochs; the last ends the training
    images: int = 200  # of the training set, for the spectrum
    probes: int = 3
    lanczos_steps: int = 24
    seeds: int = 10
    folder: str = "figures/spectrum_along_training"
    runs: str = "runs/spectrum_along_training"  # each run is kept there

    @property
    def epochs(self) -> int:
        """Of the training."""
        return self.at[-1]


def train(name: str, seed: int, config: Config) -> Arrays:
    """One run: per epoch the density's nodes and weights, the five largest eigenvalues, the root mean square."""
    data = digits(config.label_noise, seed)
    model = build("resnet", {"width": config.width}, seed)
    problem = on_first(config.images, model, data)
    rule = ls.rules.sam(config.rho if name == "sam" else 0.0)
    optimizer, closures = steps(model, rule, data, config, seed)
    found: dict[str, list[Any]] = {key: [] for key in ("nodes", "weights", "top", "spread")}
    count = len(data.train_targets) // config.batch_size
    for step, closure in enumerate(closures, start=1):
        optimizer.step(closure)
        if step % count == 0 and step // count in config.at:
            for key, value in measured(problem, config, seed).items():
                found[key].append(value)
    return {key: np.array(values) for key, values in found.items()}


def measured(problem: ls.Problem, config: Config, seed: int) -> dict[str, Any]:
    """The spectrum at the present weights."""
    H = ls.hessian(problem)
    pairs = ls.top_eigenpairs(H, 5, which="LA", tol=1e-3)
    density = ls.spectral_density(
        H,
        probes=config.probes,
        steps=config.lanczos_steps,
        outliers=pairs,
        check=0,
        generator=torch.Generator().manual_seed(seed),
    )
    square = (density.weights.double() * density.nodes.double() ** 2).sum(1).mean()
    return {
        "nodes": density.nodes.double().numpy(),
        "weights": density.weights.double().numpy(),
        "top": pairs.values.double().numpy(),
        "spread": float(square.sqrt()),
    }


def collect(config: Config) -> Arrays:
    """Per rule and quantity (seeds, epochs, ...)."""
    found: Arrays = {}
    for rule in RULES:
        runs = [
            kept(Path(config.runs) / f"{rule}-{seed}", config, partial(train, rule, seed, config))
            for seed in range(config.seeds)
        ]
        found |= {f"{rule}/{key}": np.stack([run[key] for run in runs]) for key in runs[0]}
    return found


def ends(curves: Arrays, rule: str) -> dict[str, list[list[float]]]:
    """QUANTITIES by epoch and seed: (epochs, seeds)."""
    top = curves[f"{rule}/top"]
    values = {"lambda_max": top[..., 0], "ratio": top[..., 0] / np.abs(top[..., 4]), "spread": curves[f"{rule}/spread"]}
    return {name: own.T.tolist() for name, own in values.items()}


def main(config: Config) -> dict[str, Any]:
    """Train and compare."""
    curves = kept(Path(config.folder) / "spectrum", config, lambda: collect(config))
    table = {
        rule: {name: dict(zip(config.at, map(interval, own), strict=True)) for name, own in ends(curves, rule).items()}
        for rule in RULES
    }
    found = {"intervals": table, "sentence": sentence(table, config)}
    return publish(config, "spectrum", found, partial(draw, curves, config), claims=claims(curves))


def sentence(table: Mapping[str, Mapping[str, Mapping[int, tuple[float, float, float]]]], config: Config) -> str:
    """The conditions, and what becomes of λmax."""
    tops = {rule: [table[rule]["lambda_max"][epoch][0] for epoch in config.at] for rule in RULES}
    course = "; ".join(f"{RULES[rule]} {', '.join(f'{top:.3g}' for top in own)}" for rule, own in tops.items())
    return (
        f"ResNet-8 of width {config.width} without norms, digits with {config.label_noise:.0%} wrong labels, ρ = "
        f"{config.rho:g}, Hessian of {config.images} training images; curves: seed 0, {config.probes} probes with a "
        "band of 2 standard errors, Gaussian of 1 % of the range; ticks: the five largest. λmax at epochs "
        f"{', '.join(map(str, config.at))}, means over {config.seeds} seeds: {course}. Below: SAM less SGD at the end."
    )


def claims(curves: Arrays) -> list[Claim]:
    """At the end of the training, seed by seed, by intervals that hold for both looks."""
    found = []
    sgd, sam = (ends(curves, rule) for rule in RULES)
    for name, label in QUANTITIES.items():
        less = difference(sam[name][-1], sgd[name][-1], 0.05 / LOOKS)
        means = f"{np.mean(sgd[name][-1]):.3g} with SGD, {np.mean(sam[name][-1]):.3g} with SAM"
        paper, claim = "Foret et al. 2021, figure 3 (left)", f"{label} is smaller with SAM"
        found.append(
            Claim(paper, claim, f"{means}, difference {points(less, '', 2)} ({LOOKS} looks)", verdict(less, -1))
        )
    return found


def draw(curves: Arrays, config: Config) -> Figure:
    """A column a rule, a row an epoch, all on one scale."""
    figure = Figure(figsize=(6.8, 1.45 * len(config.at) + 0.2), layout="constrained")
    highest = 0.0
    axes = figure.subplots(len(config.at), len(RULES), sharex=True, sharey=True, squeeze=False)
    for (row, epoch), (column, rule) in product(enumerate(config.at), enumerate(RULES)):
        ax = axes[row, column]
        nodes, weights = (torch.from_numpy(curves[f"{rule}/{key}"][0, row]) for key in ("nodes", "weights"))
        top = torch.from_numpy(curves[f"{rule}/top"][0, row])
        plot_density(SpectralDensity(nodes, weights), ax, eigenvalues=top, scale="symlog", color="#000000")
        ax.get_legend().remove()
        label = f"{RULES[rule]}, epoch {epoch}: λmax = {float(top[0]):.3g}, λmax/λ5 = {float(top[0] / top[4]):.2g}"
        ax.set_title(label, fontsize=SMALL)
        highest = max(highest, *ax.lines[0].get_ydata())
        last = row == len(config.at) - 1
        ax.set(xlabel="eigenvalue" if last else "", ylabel="density" if column == 0 else "")
    axes[0, 0].set_ylim(top=2 * highest)
    return figure


if __name__ == "__main__":
    command(main, Config)
