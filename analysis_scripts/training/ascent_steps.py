"""One step of ascent or several: what n = 1 … 5 steps find along training, and what training with them gives.

Digits with 40 % wrong labels, the same epochs for all n (n + 1 gradients a step); learning rate, weight decay and
radius are tuned for each n by the same random search. The loss found is that of a batch of 128 at w + e, with the
batch's statistics as in training, in networks that one step trained, at epochs along the way. The claims: about the
same test error for all n; the loss found rises by little, 3 % at n = 5 near convergence.
Source: Foret et al. 2021, arXiv:2010.01412, appendix C.6 (figure 7, table 12).
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
from analysis_scripts._shared.claims import Claim, points
from analysis_scripts._shared.frame import command, publish
from analysis_scripts._shared.many_networks import SETTING, data_of, measured
from analysis_scripts._shared.over_seeds import difference, interval, lies_in
from analysis_scripts._shared.random_search import Search
from analysis_scripts._shared.variants import network, sam_steps, tune_at
from landscape.plots.style import GREY, OTHERS, legend_above
from landscape.training.rules import Context

Interval = tuple[float, float, float]
SAME = 1.0  # points of test error within which two are "about the same"


@dataclass(frozen=True)
class Config:
    """What is trained."""

    steps: tuple[int, ...] = (1, 2, 3, 4, 5)
    early: tuple[int, ...] = (1, 3, 10)  # epochs at which the loss found is looked at, beside the last
    batches: int = 4  # of the loss found, a network
    seeds: tuple[int, ...] = tuple(range(10))
    setting: dict[str, Any] = field(default_factory=lambda: {**SETTING, "label_noise": 0.4})
    search: Search = field(default_factory=Search)
    workers: int = 2
    folder: str = "figures/ascent_steps"
    runs: str = "runs/ascent_steps"
    tuning: str = "runs/tuning"


def main(config: Config) -> dict[str, Any]:
    """Train and ascend."""
    variants = {"SAM" if n == 1 else f"SAM, {n} steps": sam_steps(n) for n in config.steps}
    found = tune_at(config, variants)
    tuned = dict(zip(config.steps, found.values(), strict=True))
    rho = tuned[config.steps[0]].point["radius"]
    look = partial(measure, steps=config.steps, early=config.early, rho=rho, batches=config.batches)
    networks = {
        (n, seed): network(
            config, f"steps{n}-{seed}", sam_steps(n), tuned[n].point, seed, checkpoint_epochs=list(config.early)
        )
        for n, seed in product(config.steps, config.seeds)
    }
    runs = measured(networks, look, config.workers)
    errors = {n: [runs[n, seed]["error"] for seed in config.seeds] for n in config.steps}
    epochs = [*config.early, config.setting["epochs"]]
    excess = {
        epoch: [runs[config.steps[0], seed]["excess"][place] for seed in config.seeds]
        for place, epoch in enumerate(epochs)
    }
    content = {"sentence": sentence(excess), "errors": errors, "excess": excess}
    content["tuned"] = {n: {"point": own.point, "at_edge": own.edges} for n, own in tuned.items()}
    return publish(
        config, "ascent_steps", content, partial(draw, config.steps, errors, excess), claims=claims(errors, excess)
    )


def measure(folder: Path, steps: Sequence[int], early: Sequence[int], rho: float, batches: int) -> dict[str, Any]:
    """Test error, and the mean over batches of L(w + e_n)/L(w + e_1) − 1 for each n, early and at the end."""
    kept = [folder / f"epoch-{epoch}" for epoch in early]
    return {
        "error": 1 - ls.load_checkpoint(folder)[1]["test_accuracy"],
        "excess": [excess_at(own, steps, rho, batches) for own in [*kept, folder]],
    }


def excess_at(folder: Path, steps: Sequence[int], rho: float, batches: int) -> list[float]:
    """Of one checkpoint."""
    model, metadata = ls.load_checkpoint(folder)
    data, size = data_of(metadata["config"]), metadata["config"]["batch_size"]
    pairs = zip(data.train_inputs.split(size), data.train_targets.split(size), strict=True)
    problems = [ls.Problem(model, F.cross_entropy, pair, batch_norm="batch") for pair in list(pairs)[:batches]]
    losses = torch.stack([torch.stack([found_loss(problem, rho, n) for n in (1, *steps)]) for problem in problems])
    return (losses[:, 1:] / losses[:, :1] - 1).mean(0).tolist()


def found_loss(problem: ls.Problem, rho: float, steps: int) -> Tensor:
    """The loss at w + e, where e is that of SAM's rule with so many steps of ascent."""
    w, rule = problem.vector(), ls.rules.sam(rho, steps=steps)
    at = Context(problem.layout, 0.0, lambda e: problem.gradient(w + e), lambda v: v)  # no product is asked for
    e, _ = rule.find_perturbation(w, problem.gradient(), None, at)
    assert e is not None
    return problem.loss(w + e)


def sentence(excess: Mapping[int, Sequence[Sequence[float]]]) -> str:
    """What the most steps find, along training."""
    found = [
        f"{points(interval([100 * each[-1] for each in own]), ' %')} at epoch {epoch}" for epoch, own in excess.items()
    ]
    return f"The most steps find a loss above that of one step by {'; '.join(found)}."


def claims(errors: Mapping[int, Sequence[float]], excess: Mapping[int, Sequence[Sequence[float]]]) -> list[Claim]:
    """The largest difference of the errors, and the excess of the most steps at the end."""
    first, *others = errors
    gaps = {n: [100 * end for end in difference(errors[n], errors[first])] for n in others}
    n = max(gaps, key=lambda own: abs(gaps[own][0]))
    near = interval([100 * each[-1] for each in list(excess.values())[-1]])
    where = "Foret et al. 2021, C.6"
    return [
        Claim(
            f"{where}, table 12",
            f"about the same test error for all numbers of steps (within {SAME:g} point)",
            f"{100 * interval(errors[first])[0]:.1f} % with one step, the largest change {points(gaps[n])} at n = {n}",
            lies_in(gaps[n], -SAME, SAME),
        ),
        Claim(
            where,
            "near convergence, 5 steps find a loss 3 % (2.5 to 3.5) above one step's",
            f"{points(near, ' %')} at n = {max(errors)}",
            lies_in(near, 2.5, 3.5),
        ),
    ]


def draw(
    steps: Sequence[int], errors: Mapping[int, Sequence[float]], excess: Mapping[int, Sequence[Sequence[float]]]
) -> Figure:
    """Test error over n, every seed a grey line; the excess of the loss found, a line an epoch."""
    figure = Figure(figsize=(7.4, 3.5), layout="compressed")
    left, right = figure.subplots(1, 2)
    percent = [[100 * x for x in errors[n]] for n in steps]
    left.plot(steps, percent, color="0.75", linewidth=0.7)
    bars(left, steps, [interval(own) for own in percent], (GREY, "o"), "mean and 95 % interval; one seed: thin")
    left.set(xlabel="steps of ascent in training, n", ylabel="test error (%)", xticks=steps)
    for place, (epoch, own) in enumerate(excess.items()):
        x = [n + 0.08 * (place - (len(excess) - 1) / 2) for n in steps]
        found = [interval([100 * each[i] for each in own]) for i in range(len(steps))]
        bars(right, x, found, OTHERS[place % len(OTHERS)], f"epoch {epoch}")
    right.axhline(3, color=GREY, linewidth=0.8, linestyle=":")
    right.annotate(
        "the paper, n = 5",
        (1, 3),
        (-3, -3),
        ("axes fraction", "data"),
        "offset points",
        ha="right",
        va="top",
        fontsize=7.5,
    )
    right.set(xlabel="steps of ascent, n", ylabel="loss found over one step's (%)", xticks=steps)
    for ax in (left, right):
        legend_above(ax, columns=4)
    return figure


def bars(ax: Any, x: Sequence[float], found: Sequence[Interval], look: tuple[str, str], label: str) -> None:
    """Means with their intervals."""
    ax.vlines(x, [own[1] for own in found], [own[2] for own in found], color=look[0], linewidth=1.2)
    ax.plot(x, [own[0] for own in found], f"{look[1]}-", color=look[0], markersize=4, linewidth=1.0, label=label)


if __name__ == "__main__":
    command(main, Config)
