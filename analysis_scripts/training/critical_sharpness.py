"""Is the critical sharpness, which forward passes alone measure, a stand-in for λmax along a training?

Full-batch gradient descent on digits, a tanh network with the squared error, as in `edge_of_stability`. Along the
training: the critical sharpness λ_c = 2/η_c, η_c the smallest step along the gradient that raises the loss, beside λmax
of the Hessian and the threshold 2/η.
Source of the claims: Kalra et al. 2026, arXiv:2601.16979.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import spearmanr

from analysis_scripts._shared.claims import Claim, points
from analysis_scripts._shared.frame import Arrays, command, kept, legend_over, publish
from analysis_scripts._shared.over_seeds import difference, interval, verdict
from analysis_scripts.training.edge_of_stability import NEAR, at_threshold, span, tracked
from landscape.plots import plot_seeds
from landscape.plots.style import BLUE

PAPER = "Kalra et al. 2026, abstract"
CURVES = {"critical_sharpness": "critical sharpness", "lambda_max": "λmax(H)"}


@dataclass(frozen=True)
class Config:
    """What is trained; every number of the figure follows from it. As in `edge_of_stability`."""

    images: int = 500
    hidden: tuple[int, ...] = (32,)
    rates: tuple[float, ...] = (0.1, 0.11, 0.125)
    steps: int = 5000
    every: int = 100
    seeds: int = 5
    folder: str = "figures/critical_sharpness"
    runs: str = "runs/critical_sharpness"  # each run is kept there


def train(lr: float, seed: int, config: Config) -> Arrays:
    """One run: the step and CURVES every so many steps."""
    rows, _ = tracked(torch.optim.SGD, lr, seed, config, critical=True)
    return {key: np.array([getattr(row, key) for row in rows], dtype=float) for key in ("step", *CURVES)}


def collect(config: Config) -> Arrays:
    """Per learning rate and quantity the curves, (seeds, times)."""
    found: Arrays = {}
    for lr in config.rates:
        runs = [
            kept(Path(config.runs) / f"gd-{lr:g}-{seed}", config, partial(train, lr, seed, config))
            for seed in range(config.seeds)
        ]
        found |= {f"{lr:g}/{key}": np.stack([run[key] for run in runs]) for key in runs[0]}
    return found


def of_runs(critical: NDArray[Any], top: NDArray[Any], threshold: float) -> dict[str, list[float]]:
    """One number a seed of each, from curves (seeds, times).

    rank: Spearman's correlation of λ_c with λmax until λmax comes within a tenth of the threshold; rise: of λ_c until
    then, in thresholds; late, late_top: λ_c and λmax over the last third, in thresholds; above: the share of
    measurements, in percent, at which λ_c lies above λmax.
    """
    found: dict[str, list[float]] = {key: [] for key in ("rank", "rise", "late", "late_top", "above")}
    for own, other in zip(critical / threshold, top / threshold, strict=True):
        reached = np.flatnonzero(other >= 1 - NEAR)
        before = slice(0, max(int(reached[0]) if len(reached) else len(other), 3))
        late = slice(2 * len(own) // 3, None)
        found["rank"].append(float(spearmanr(own[before], other[before]).statistic))
        found["rise"].append(float(own[before][-1] - own[0]))
        found["late"].append(float(own[late].mean()))
        found["late_top"].append(float(other[late].mean()))
        found["above"].append(100 * float((own > other).mean()))
    return found


def claims(rates: Mapping[float, Mapping[str, Sequence[float]]]) -> list[Claim]:
    """Of Kalra et al., seed by seed over the learning rates."""
    own = {key: np.mean([found[key] for found in rates.values()], 0).tolist() for key in next(iter(rates.values()))}
    here = f"η = {', '.join(f'{lr:g}' for lr in rates)}"
    rank, rise, late, above = (interval(own[key]) for key in ("rank", "rise", "late", "above"))
    beyond = difference(own["late"], own["late_top"])
    before = "before λmax comes to its threshold"
    return [
        Claim(
            PAPER,
            "progressive sharpening is seen by λ_c",
            f"it rises by {points(rise, ' of 2/η', 2)} {before} ({here})",
            verdict(rise),
        ),
        Claim(
            PAPER,
            "λ_c follows λmax there",
            f"rank correlation {span(np.clip(rank, -1, 1).tolist())} {before}",
            verdict(rank),
        ),
        Claim(
            PAPER,
            "the edge of stability is seen by λ_c: it hovers at 2/η",
            f"late {span(late)} of it, {points(beyond, '', 2)} against λmax, above it {span(above, 0)} % of the time",
            at_threshold(late),
        ),
    ]


def sentence(config: Config) -> str:
    """The conditions."""
    sizes = "-".join(str(size) for size in (64, *config.hidden, 10))
    return (
        f"Full-batch gradient descent on {config.images} digits, tanh network {sizes}, squared error, no batch norm, "
        f"no weight decay; every {config.every} steps; means over {config.seeds} seeds, bands hold them all; grey: "
        "2/η. A seed's numbers are means over the learning rates; late: the last third of steps; within "
        f"{NEAR:.0%} of the threshold is at it."
    )


def main(config: Config) -> dict[str, Any]:
    """Train, and compare λ_c with λmax."""
    curves = kept(Path(config.folder) / "critical_sharpness", config, lambda: collect(config))
    runs = {
        lr: of_runs(curves[f"{lr:g}/critical_sharpness"], curves[f"{lr:g}/lambda_max"], 2 / lr) for lr in config.rates
    }
    found = {"runs": runs, "sentence": sentence(config)}
    return publish(config, "critical_sharpness", found, partial(draw, curves, config), claims=claims(runs))


def draw(curves: Arrays, config: Config) -> Figure:
    """A panel a learning rate: λ_c and λmax, with 2/η."""
    figure = Figure(figsize=(6.8, 2.8), layout="constrained")
    axes = figure.subplots(1, len(config.rates), sharey=True, squeeze=False)[0]
    for ax, lr in zip(axes, config.rates, strict=True):
        for (key, label), (color, style) in zip(CURVES.items(), ((BLUE, "-"), ("#000000", "--")), strict=True):
            own = curves[f"{lr:g}/{key}"]
            plot_seeds(curves[f"{lr:g}/step"][0], own, ax, label=label, color=color, linestyle=style)
        ax.axhline(2 / lr, color="0.5", linewidth=0.7, linestyle=":", label="2/η")
        ax.set(title=f"η = {lr:g}", xlabel="step", yscale="log")
    axes[0].set_ylabel("sharpness")
    legend_over(figure, axes[0], 3)
    return figure


if __name__ == "__main__":
    command(main, Config)
