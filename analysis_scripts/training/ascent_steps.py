"""One step of ascent or several: what n = 1 … 5 steps find, and what training with them gives.

The paper: about the same test error for all n, the loss found 3 % higher at n = 5 near convergence. Digits with 40 %
wrong labels, the same epochs for all n (n + 1 gradients a step). The loss found is that of a batch of 128 at w + e,
with the batch's statistics as in training, in networks that one step trained, for a few epochs and for all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

import landscape as ls
from analysis_scripts._shared.frame import command, publish
from analysis_scripts._shared.many_networks import RADII, SETTING, data_of, measured, training
from analysis_scripts._shared.over_seeds import difference, interval
from landscape.plots.style import BLUE, GREY, RED, legend_above
from landscape.training.rules import Context

Interval = tuple[float, float, float]


@dataclass(frozen=True)
class Config:
    """What is trained."""

    steps: tuple[int, ...] = (1, 2, 3, 4, 5)
    rho: float = RADII["sam"]["rho"]
    early: int = 3  # epochs
    batches: int = 4  # of the loss found, a network
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    setting: dict[str, Any] = field(default_factory=lambda: {**SETTING, "label_noise": 0.4})
    workers: int = 2
    folder: str = "figures/ascent_steps"
    runs: str = "runs/ascent_steps"


def main(config: Config) -> dict[str, Any]:
    """Train and ascend."""
    look = partial(measure, steps=config.steps, rho=config.rho, batches=config.batches)
    last, own = config.setting["epochs"], {"rho": config.rho}
    kinds = [(n, last) for n in config.steps] + [(1, config.early)]  # every n for all epochs, n = 1 also for a few
    networks = {
        (n, epochs, seed): training(
            config, f"steps{n}-epochs{epochs}-{seed}", "sam", seed, rule_settings={**own, "steps": n}, epochs=epochs
        )
        for (n, epochs), seed in product(kinds, config.seeds)
    }
    found = measured(networks, look, config.workers)
    errors = {n: [found[n, last, seed]["error"] for seed in config.seeds] for n in config.steps}
    ends = {f"after {epochs} epochs": epochs for epochs in (config.early, last)}
    excess = {name: [found[1, epochs, seed]["excess"] for seed in config.seeds] for name, epochs in ends.items()}
    content = {"sentence": sentence(errors, excess), "errors": errors, "excess": excess}
    return publish(config, "ascent_steps", content, partial(draw, config.steps, errors, excess))


def measure(folder: Path, steps: Sequence[int], rho: float, batches: int) -> dict[str, Any]:
    """Test error, and the mean over batches of L(w + e_n)/L(w + e_1) − 1 for each n."""
    model, metadata = ls.load_checkpoint(folder)
    data, size = data_of(metadata["config"]), metadata["config"]["batch_size"]
    pairs = zip(data.train_inputs.split(size), data.train_targets.split(size), strict=True)
    problems = [ls.Problem(model, F.cross_entropy, pair, batch_norm="batch") for pair in list(pairs)[:batches]]
    losses = torch.stack([torch.stack([found_loss(problem, rho, n) for n in (1, *steps)]) for problem in problems])
    return {
        "error": 1 - metadata["test_accuracy"],
        "excess": (losses[:, 1:] / losses[:, :1] - 1).mean(0).tolist(),
        "loss": float(torch.stack([problem.loss() for problem in problems]).mean()),
        "rise": float((losses[:, 0]).mean()),
    }


def found_loss(problem: ls.Problem, rho: float, steps: int) -> Tensor:
    """The loss at w + e, where e is that of SAM's rule with so many steps of ascent."""
    w, rule = problem.vector(), ls.rules.sam(rho, steps=steps)
    at = Context(problem.layout, 0.0, lambda e: problem.gradient(w + e), lambda v: v)  # no product is asked for
    e, _ = rule.find_perturbation(w, problem.gradient(), None, at)
    assert e is not None
    return problem.loss(w + e)


def sentence(errors: Mapping[int, Sequence[float]], excess: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """The largest difference of the errors with its interval, and the excess of the most steps."""
    first, *others = errors
    gaps = {n: difference(errors[n], errors[first]) for n in others}
    n = max(gaps, key=lambda own: abs(gaps[own][0]))
    mean, low, high = (100 * x for x in gaps[n])
    parts = [
        f"Test error {100 * interval(errors[first])[0]:.1f} % with one step; the largest change is "
        f"{mean:+.1f} [{low:+.1f}, {high:+.1f}] points at n = {n} (the paper: about the same)"
    ]
    for when, own in excess.items():
        mean, low, high = (100 * x for x in interval([each[-1] for each in own]))
        parts.append(
            f"{when}, n = {max(errors)} finds a loss {mean:.1f} % [{low:.1f}, {high:.1f}] above that of one step"
        )
    return "; ".join(parts) + " (the paper: 3 % near convergence)."


def draw(
    steps: Sequence[int], errors: Mapping[int, Sequence[float]], excess: Mapping[str, Sequence[Sequence[float]]]
) -> Figure:
    """Test error over n, every seed a grey line; the excess of the loss found."""
    figure = Figure(figsize=(7.4, 3.5), layout="compressed")
    left, right = figure.subplots(1, 2)
    percent = [[100 * x for x in errors[n]] for n in steps]
    left.plot(steps, percent, color="0.75", linewidth=0.7)
    bars(left, steps, [interval(own) for own in percent], GREY, "mean and 95 % interval; one seed: thin")
    left.set(xlabel="steps of ascent in training, n", ylabel="test error (%)", xticks=steps)
    for (when, own), color in zip(excess.items(), (RED, BLUE), strict=True):
        bars(right, steps, [interval([100 * each[i] for each in own]) for i in range(len(steps))], color, when)
    right.axhline(3, color=GREY, linewidth=0.8, linestyle=":")
    right.annotate("the paper, n = 5", (steps[0], 3), xytext=(0, 3), textcoords="offset points", fontsize=7.5)
    right.set(xlabel="steps of ascent, n", ylabel="loss found over one step's (%)", xticks=steps)
    for ax in (left, right):
        legend_above(ax, columns=2)
    return figure


def bars(ax: Any, x: Sequence[int], found: Sequence[Interval], color: str, label: str) -> None:
    """Means with their intervals."""
    ax.vlines(x, [own[1] for own in found], [own[2] for own in found], color=color, linewidth=1.2)
    ax.plot(x, [own[0] for own in found], "o-", color=color, markersize=4, linewidth=1.0, label=label)


if __name__ == "__main__":
    command(main, Config)
