"""GSAM over ρ and α: test accuracy, 2h/ρ² and λmax of the trained network.

Zhuang et al. estimate λmax by 2h/ρ² and find that both fall with ρ and with α and follow one another; the accuracy
gains by α > 0 (α = 0 is SAM). h and λmax are of all training images that `images` names, at the end of the training.
Source: Zhuang et al. 2022, arXiv:2203.08065, figure 4 and section 6.2.
"""

from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import spearmanr

import landscape as ls
from analysis_scripts._shared.claims import Claim, points
from analysis_scripts._shared.digits_steps import DigitsTraining, Leading, on_first, steps
from analysis_scripts._shared.frame import Arrays, command, kept, publish
from analysis_scripts._shared.over_seeds import interval, verdict
from landscape.data import digits
from landscape.models import build
from landscape.plots.style import SMALL

PANELS = {"accuracy": "test accuracy (%)", "estimate": "2h/ρ²", "lambda_max": "λmax", "gap": "gap h"}
PAPER, LEARNED = "Zhuang et al. 2022, figure 4", 80  # per cent of the test images


@dataclass(frozen=True)
class Config(DigitsTraining):
    """What is trained; every number of the figure follows from it."""

    rhos: tuple[float, ...] = (0.025, 0.05, 0.1, 0.2)
    alphas: tuple[float, ...] = (0.0, 0.1, 0.2, 0.4, 0.8)
    hidden: tuple[int, ...] = (32, 32)
    epochs: int = 30
    images: int = 1200  # of the training set, for h and λmax
    seeds: int = 5
    folder: str = "figures/gsam_map"


def train(rho: float, alpha: float, seed: int, config: Config) -> dict[str, float]:
    """What PANELS names, of one run of GSAM."""
    data = digits(config.label_noise, seed)
    model = build("mlp", {"hidden": list(config.hidden)}, seed)
    optimizer, closures = steps(model, ls.rules.gsam(rho, alpha), data, config, seed)
    for closure in closures:
        optimizer.step(closure)
    problem = on_first(config.images, model, data)
    gap = ls.metrics.surrogate_gap(problem, rho=rho)
    with torch.no_grad():
        right = (model(data.test_inputs).argmax(1) == data.test_targets).double().mean()
    return {
        "accuracy": 100 * float(right),
        "estimate": float(gap.details["two_h_over_rho2"]),
        "lambda_max": float(Leading(problem, tol=1e-2)().values[0]),
        "gap": float(gap.value),
    }


def collect(config: Config) -> Arrays:
    """Each panel, (seeds, ρ, α)."""
    shape = (config.seeds, len(config.rhos), len(config.alphas))
    runs = [
        train(rho, alpha, seed, config) for seed, rho, alpha in product(range(shape[0]), config.rhos, config.alphas)
    ]
    return {key: np.array([run[key] for run in runs]).reshape(shape) for key in PANELS}


def main(config: Config) -> dict[str, Any]:
    """Train on the grid and compare."""
    maps = kept(Path(config.folder) / "gsam_map", config, lambda: collect(config))
    means = {key: values.mean(0).tolist() for key, values in maps.items()}
    found = {"means": means, "sentence": sentence(maps, config)}
    return publish(config, "gsam_map", found, partial(draw, maps, config), claims=claims(maps))


def trained(maps: Arrays) -> NDArray[np.bool_]:
    """Cells in which every seed has learned, (ρ, α): a flat network that predicts nothing tells nothing of the rule."""
    return np.asarray((maps["accuracy"] > LEARNED).all(0))


def sentence(maps: Arrays, config: Config) -> str:
    """The conditions, and the cells that are left out."""
    sizes = "-".join(str(size) for size in (64, *config.hidden, 10))
    failed = [f"(ρ = {config.rhos[row]:g}, α = {config.alphas[i]:g})" for row, i in np.argwhere(~trained(maps))]
    left_out = f", without the rows and columns of {', '.join(failed)}, where a seed stays below {LEARNED} %"
    return (
        f"Perceptron {sizes}, digits with {config.label_noise:.0%} wrong labels, {config.epochs} epochs, h and λmax of "
        f"{config.images} training images; means over {config.seeds} seeds. Compared seed by seed"
        f"{left_out if failed else ''}. 2h/ρ² holds 2|g|/ρ, which falls with ρ by itself."
    )


def claims(maps: Arrays) -> list[Claim]:
    """Ends of the grid against each other, means over the other axis; seed by seed."""
    learned, found = trained(maps), []
    rows, columns = learned.all(1), learned.all(0)
    if not (rows.any() and columns.any()):
        return []
    for key, place in (("lambda_max", "right"), ("estimate", "middle")):
        values = np.log2(np.maximum(maps[key], np.finfo(float).tiny))
        along = {"α": values[:, rows, -1] - values[:, rows, 0], "ρ": values[:, -1, columns] - values[:, 0, columns]}
        for name, change in along.items():
            more = interval(change.mean(1).tolist())
            text = f"{points(more, ' doublings', 2)} from the smallest to the largest {name}"
            found.append(Claim(f"{PAPER} ({place})", f"{PANELS[key]} falls with {name}", text, verdict(more, -1)))
    one, other = (maps[key] for key in ("estimate", "lambda_max"))
    over_grid = [agreement(*pair) for pair in zip(one[:, learned], other[:, learned], strict=True)]
    at_fixed = [
        float(np.mean([agreement(*pair) for pair in zip(left[rows], right[rows], strict=True)]))
        for left, right in zip(one, other, strict=True)
    ]
    for where, ranks in (("over ρ and α", over_grid), ("over α at the same ρ", at_fixed)):
        rank = interval(ranks)
        text = f"their rank correlation is {points(rank, '', 2)}"
        found.append(Claim(f"{PAPER} (middle, right)", f"2h/ρ² follows λmax {where}", text, verdict(rank)))
    gain = interval((maps["accuracy"][:, rows, 1:].mean(2) - maps["accuracy"][:, rows, 0]).mean(1).tolist())
    text = f"{points(gain, ' points', 2)} by the mean over α > 0 and ρ"
    found.append(Claim(f"{PAPER} (left)", "the ascent step (α > 0) raises the accuracy of SAM", text, verdict(gain)))
    less = interval((maps["gap"][:, rows, -1] / maps["gap"][:, rows, 0] - 1).mean(1).tolist())
    text = f"{points([100 * end for end in less], ' %')} from α = 0 to the largest, at the end"
    found.append(Claim("Zhuang et al. 2022, figure 9", "h is smaller for a larger α", text, verdict(less, -1)))
    return found


def agreement(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Spearman's correlation over the cells."""
    return float(spearmanr(one.ravel(), other.ravel()).statistic)


def draw(maps: Arrays, config: Config) -> Figure:
    """A map a panel: the means, as grey and as numbers."""
    figure, learned = Figure(figsize=(6.8, 4.4), layout="constrained"), trained(maps)
    for ax, (key, label) in zip(figure.subplots(2, 2, sharex=True, sharey=True).flatten(), PANELS.items(), strict=True):
        values = maps[key].mean(0)
        shown = values[learned] if learned.any() else values
        low, high = shown.min(), shown.max()
        ax.imshow(values, cmap="Greys", vmin=low - 0.2 * (high - low), vmax=high + 0.8 * (high - low), aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            ax.text(column, row, f"{value:#.3g}", ha="center", va="center", fontsize=SMALL)
        ax.set(title=label, xticks=range(len(config.alphas)), yticks=range(len(config.rhos)))
        ax.set_xticklabels([f"{alpha:g}" for alpha in config.alphas])
        ax.set_yticklabels([f"{rho:g}" for rho in config.rhos])
    for ax in figure.axes[2:]:
        ax.set_xlabel("α")
    for ax in figure.axes[::2]:
        ax.set_ylabel("ρ")
    return figure


if __name__ == "__main__":
    command(main, Config)
