"""Does full-batch training raise the sharpness to its threshold of stability and stay there?

Gradient descent and Adam on all images at once, a tanh network with the squared error, no schedule. Along the training:
λmax(P⁻¹H), P the optimiser's preconditioner (I for the first), beside the threshold above which its steps diverge on a
quadratic, 2/η and (2 + 2β₁)/((1 − β₁)η) = 38/η; λmax(H); the loss at every step.
Source of the claims: Cohen et al. 2021, arXiv:2103.00065; Cohen et al. 2022, arXiv:2207.14484 (Adam).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

import landscape as ls
from analysis_scripts._shared.claims import Claim, points
from analysis_scripts._shared.frame import Arrays, command, kept, publish
from analysis_scripts._shared.over_seeds import difference, interval, verdict
from landscape.data import digits
from landscape.plots import plot_seeds
from landscape.plots.style import BLUE, RED, legend_above
from landscape.side_effects import random_state_kept
from landscape.training.tracker import Measurement

OPTIMIZERS: dict[str, tuple[str, str, str, type[Any]]] = {  # name, paper, threshold, what it is
    "gd": ("gradient descent", "Cohen et al. 2021, abstract", "λmax(H) hovers at 2/η", torch.optim.SGD),
    "adam": ("Adam", "Cohen et al. 2022, abstract", "λmax(P⁻¹H) hovers at 38/η", torch.optim.Adam),
}
CURVES = ("step", "sharpness", "threshold", "lambda_max", "loss")
LINES: tuple[tuple[str, str], ...] = (("#000000", "-"), (BLUE, "--"), (RED, ":"))  # one a learning rate
NEAR = 0.1  # a ratio to the threshold this near to 1 is at the threshold


@dataclass(frozen=True)
class Config:
    """What is trained; every number of the figure follows from it."""

    images: int = 500
    hidden: tuple[int, ...] = (32,)
    rates: dict[str, tuple[float, ...]] = field(
        default_factory=lambda: {"gd": (0.1, 0.11, 0.125), "adam": (0.002, 0.004, 0.008)}
    )
    steps: int = 5000
    every: int = 100
    seeds: int = 5
    folder: str = "figures/edge_of_stability"
    runs: str = "runs/edge_of_stability"  # each run is kept there


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """½ |outputs − one-hot targets|², mean over the images."""
    wanted = F.one_hot(targets, outputs.shape[1]).to(outputs.dtype)
    return (outputs - wanted).square().sum(1).mean() / 2


def network(hidden: Sequence[int], seed: int) -> nn.Module:
    """Linear layers with tanh between them, torch's own start."""
    sizes = [64, *hidden, 10]
    with random_state_kept():
        torch.manual_seed(seed)
        layers = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.Tanh())]
    return nn.Sequential(nn.Flatten(), *layers[:-1])


def tracked(
    kind: type[Any], lr: float, seed: int, config: Any, **settings: Any
) -> tuple[list[Measurement], list[float]]:
    """Full-batch training by an optimiser: a Tracker's rows every so many steps, and the loss before every step.

    Args:
        kind: of optimiser.
        config: its images, hidden, steps and every.
        settings: others of the `Tracker`; optimizer=True gives it the optimiser.
    """
    data = digits()
    inputs, targets = data.train_inputs[: config.images], data.train_targets[: config.images]
    model = network(config.hidden, seed)
    optimizer = kind(model.parameters(), lr=lr)
    settings["optimizer"] = optimizer if settings.get("optimizer") else None
    tracker = ls.Tracker(ls.Problem(model, squared_error, (inputs, targets)), every=config.every, **settings)
    losses = []
    for _ in range(config.steps):
        optimizer.zero_grad()
        loss = squared_error(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        tracker.step()
    return tracker.rows, losses


def train(name: str, lr: float, seed: int, config: Config) -> Arrays:
    """One run: CURVES every so many steps, but the loss before every step."""
    rows, losses = tracked(OPTIMIZERS[name][-1], lr, seed, config, optimizer=True)
    return {
        "step": np.array([row.step for row in rows]),
        "sharpness": np.array([row.preconditioned for row in rows], dtype=float),
        "threshold": np.array([row.threshold for row in rows], dtype=float),
        "lambda_max": np.array([row.lambda_max for row in rows]),
        "loss": np.array(losses, dtype=np.float32),
    }


def collect(config: Config) -> Arrays:
    """Per optimiser, learning rate and quantity the curves, (seeds, times)."""
    found: Arrays = {}
    for name, rates in config.rates.items():
        for lr in rates:
            runs = [
                kept(Path(config.runs) / f"{name}-{lr:g}-{seed}", config, partial(train, name, lr, seed, config))
                for seed in range(config.seeds)
            ]
            found |= {f"{name}/{lr:g}/{key}": np.stack([run[key] for run in runs]) for key in runs[0]}
    return found


def of_runs(own: Mapping[str, NDArray[Any]]) -> dict[str, list[float]]:
    """One number a seed of each, from the curves of one learning rate.

    ratio: of the sharpness to the threshold, over the last third; start: at the first measurement. After the first time
    that it comes within a tenth: rises, the share of steps after which the loss is higher; halvings, of the loss from
    there to the end; doublings, of λmax(H).
    """
    found: dict[str, list[float]] = {key: [] for key in ("ratio", "start", "rises", "halvings", "doublings")}
    for ratio, steps, top, loss in zip(
        own["sharpness"] / own["threshold"], own["step"], own["lambda_max"], own["loss"], strict=True
    ):
        reached = np.flatnonzero(ratio >= 1 - NEAR)
        at = int(reached[0]) if len(reached) else len(ratio) - 2
        after = loss[steps[at] - 1 :]
        found["ratio"].append(float(ratio[2 * len(ratio) // 3 :].mean()))
        found["start"].append(float(ratio[0]))
        found["rises"].append(100 * float((np.diff(after) > 0).mean()))
        found["halvings"].append(float(np.log2(after[0] / after[-1])))
        found["doublings"].append(float(np.log2(top[-1] / top[at])))
    return found


def main(config: Config) -> dict[str, Any]:
    """Train, and compare with the thresholds."""
    curves = kept(Path(config.folder) / "edge_of_stability", config, lambda: collect(config))
    runs = {name: {lr: of_runs(of(curves, name, lr)) for lr in rates} for name, rates in config.rates.items()}
    found = {"runs": runs, "sentence": sentence(config)}
    own = [claim for name, rates in runs.items() for claim in claims(name, rates)]
    return publish(config, "edge_of_stability", found, partial(draw, curves, config), claims=own)


def of(curves: Arrays, name: str, lr: float) -> Arrays:
    """The curves of one optimiser and learning rate."""
    return {key: curves[f"{name}/{lr:g}/{key}"] for key in CURVES}


def sentence(config: Config) -> str:
    """The conditions."""
    sizes = "-".join(str(size) for size in (64, *config.hidden, 10))
    return (
        f"Full-batch training on {config.images} digits, tanh network {sizes}, squared error, no batch norm, no "
        f"weight decay; means over {config.seeds} seeds, bands hold them all; grey: thresholds. A seed's numbers are "
        f"means over the learning rates; late: the last third of steps; within {NEAR:.0%} of the threshold is at it."
    )


def at_threshold(ratio: Sequence[float]) -> str:
    """Of a claim that a ratio is 1: by whether its interval lies within, or outside, a tenth."""
    _, low, high = ratio
    if low >= 1 - NEAR and high <= 1 + NEAR:
        return "agrees"
    return "differs" if high < 1 - NEAR or low > 1 + NEAR else "cannot say"


def claims(name: str, rates: Mapping[float, Mapping[str, Sequence[float]]]) -> list[Claim]:
    """Of Cohen et al., seed by seed over the learning rates."""
    own = {key: np.mean([found[key] for found in rates.values()], 0).tolist() for key in next(iter(rates.values()))}
    label, paper, threshold, _ = OPTIMIZERS[name]
    here = f"{label}, η = {', '.join(f'{lr:g}' for lr in rates)}"
    ratio, rise = interval(own["ratio"]), difference(own["ratio"], own["start"])
    rises, halvings, more = (interval(own[key]) for key in ("rises", "halvings", "doublings"))
    found = [Claim(paper, threshold, f"late {span(ratio)} of it ({here})", at_threshold(ratio))]
    text = f"{points(rise, ' of the threshold', 2)} from the first measurement on"
    found.append(Claim(paper, "it rises to there", text, verdict(rise)))
    if name == "adam":
        text = f"it doubles {points(more, ' times', 2)} after the threshold is reached"
        found.append(Claim(paper, "λmax(H) itself goes on rising there", text, verdict(more)))
    else:
        text = f"it rises after {span(rises, 0)} % of the steps there, and halves {span(halvings, 1)} times"
        both = "agrees" if rises[1] > 0 and halvings[1] > 0 else "differs" if halvings[2] < 0 else "cannot say"
        found.append(Claim(paper, "there the loss falls over long times, not step by step", text, both))
    return found


def span(found: Sequence[float], digits: int = 2) -> str:
    """A mean and its interval."""
    mean, low, high = (f"{value:.{digits}f}" for value in found)
    return f"{mean} [{low}, {high}]"


def draw(curves: Arrays, config: Config) -> Figure:
    """A column an optimiser: the sharpness with its thresholds, the loss, λmax(H) of Adam."""
    figure = Figure(figsize=(6.8, 4.6), layout="constrained")
    axes = figure.subplots(2, len(config.rates), sharex=True, squeeze=False)
    for (above, below), (name, rates) in zip(axes.T, config.rates.items(), strict=True):
        for lr, (color, style) in zip(rates, LINES, strict=False):
            own, line = of(curves, name, lr), {"color": color, "linestyle": style, "label": f"η = {lr:g}"}
            plot_seeds(own["step"][0], own["sharpness"], above, **line)
            above.axhline(own["threshold"][0, 0], color="0.5", linewidth=0.7, linestyle=style)
            if name == "adam":
                plot_seeds(own["step"][0], own["lambda_max"], below, **line)
            else:
                plot_seeds(np.arange(1, config.steps + 1), own["loss"], below, **line)
        label = OPTIMIZERS[name][0]
        above.set(ylabel="λmax(P⁻¹H), 38/η" if name == "adam" else "λmax(H), 2/η")
        below.set(xlabel=f"step of {label}", ylabel="λmax(H)" if name == "adam" else "training loss")
        below.set_yscale("linear" if name == "adam" else "log")
        above.ticklabel_format(axis="y", scilimits=(-3, 3), useMathText=True)
        legend_above(above, columns=3)
        above.get_legend().set_bbox_to_anchor((0.55, 1.06))
    return figure


if __name__ == "__main__":
    command(main, Config)
