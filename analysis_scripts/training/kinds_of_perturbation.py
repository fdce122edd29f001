"""What of SAM's perturbation matters: its direction, the norm of its ball, how many weights it moves?

Digits with 40 % wrong labels, a perceptron with batch norm, learning rate and weight decay those that the rule table
tuned for SAM. Left: test error over the length |e| of SAM's perturbation with p = 1, 2, ∞ and of a random one (p = ∞:
radius |e|/√P). Middle: the loss of a batch at distance |e|, along SAM's e and along random directions, in networks of
SGD and of SAM. Right: test error over the share of weights that SSAM leaves out. Means and 95 % intervals over seeds.
The claims: p = 2 is better than p = ∞, SAM's e than a random one (Foret et al. 2021, arXiv:2010.01412, appendix C.5,
figure 6; the rule table has both with tuned learning rates); half the perturbation is enough (Mi et al. 2022,
arXiv:2210.05177, abstract).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from math import inf
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

import landscape as ls
from analysis_scripts._shared.claims import Claim, points
from analysis_scripts._shared.frame import command, publish
from analysis_scripts._shared.many_networks import SETTING, data_of, measured, none_failed, slug, training
from analysis_scripts._shared.over_seeds import at_best_of_others, difference, interval, lies_in, verdict
from analysis_scripts._shared.random_search import error
from landscape.models import build
from landscape.plots.style import BLUE, GREY, OTHERS, RED, legend_above
from landscape.vectors import unit

RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "p = 2": ("sam", {}),
    "p = ∞": ("sam", {"p": inf}),
    "p = 1": ("sam", {"p": 1}),
    "random": ("random_perturbation", {}),
}
LOOKS = dict(zip(RULES, ((BLUE, "s"), *OTHERS[1:3], (GREY, "o")), strict=True))
MASKS = {"ssam_f": "SSAM-F", "ssam_d": "SSAM-D"}
DRAWS = 10  # random directions, a batch
SAME = 1.0  # points of test error within which a sparse perturbation is "enough"
Curves = Mapping[str, Mapping[float, Sequence[float]]]  # line, place on the axis, seed


@dataclass(frozen=True)
class Config:
    """What is trained; every number of the figure follows from it."""

    lengths: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # |e|
    sparsities: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95, 0.98)
    tuned: float = 0.8  # |e| of the sparse perturbations, and of the SAM networks whose loss is looked at
    lr: float = 0.0766
    weight_decay: float = 1.23e-5
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    batches: int = 4
    setting: dict[str, Any] = field(default_factory=lambda: {**SETTING, "label_noise": 0.4})
    workers: int = 2
    folder: str = "figures/kinds_of_perturbation"
    runs: str = "runs/kinds_of_perturbation"


def main(config: Config) -> dict[str, Any]:
    """Train and look."""
    networks = runs(config)
    found = none_failed(measured(networks, error, config.workers))
    errors: dict[str, dict[float, list[float]]] = {}
    for (name, place, _), own in found.items():
        errors.setdefault(name, {}).setdefault(place, []).append(100 * own["error"])
    looked = {"SGD": ("SGD", 0.0), "SAM": ("p = 2", config.tuned)}
    rises = {
        name: [rise(Path(networks[*key, seed].folder), config) for seed in config.seeds] for name, key in looked.items()
    }
    content = {"sentence": sentence(config), "errors": errors, "rises": rises}
    figure = partial(draw, config, errors, rises)
    return publish(config, "kinds", content, figure, claims=claims(config, errors, rises))


def runs(config: Config) -> dict[tuple[str, float, int], ls.TrainConfig]:
    """Line, place on its axis and seed to a run."""
    model = build(config.setting["model"], config.setting["model_settings"], seed=0)
    of_signs = sum(p.numel() for p in model.parameters()) ** 0.5  # |e| of p = ∞ and radius 1
    rows: dict[tuple[str, float], tuple[str, dict[str, Any]]] = {("SGD", 0.0): ("sgd", {})}
    for (name, (rule, more)), length in product(RULES.items(), config.lengths):
        rows[name, length] = (rule, {"rho": length / of_signs if name == "p = ∞" else length, **more})
    for rule, share in product(MASKS, config.sparsities):
        rows[MASKS[rule], share] = (rule, {"rho": config.tuned, "sparsity": share, "period": 50})
    return {
        (name, place, seed): training(
            config,
            f"{slug(name)}-{place:g}-{seed}",
            rule,
            seed,
            rule_settings=settings,
            weight_decay=config.weight_decay,
        )
        for ((name, place), (rule, settings)), seed in product(rows.items(), config.seeds)
    }


def rise(folder: Path, config: Config) -> dict[str, list[float]]:
    """Mean over batches of L(w + e) − L(w), e along the batch's gradient and along random directions, for each |e|."""
    model, metadata = ls.load_checkpoint(folder)
    data = data_of(metadata["config"])
    size, source = metadata["config"]["batch_size"], torch.Generator().manual_seed(0)
    found: dict[str, list[Tensor]] = {"gradient": [], "random": []}
    for pair in list(zip(data.train_inputs.split(size), data.train_targets.split(size), strict=True))[: config.batches]:
        problem = ls.Problem(model, F.cross_entropy, pair, batch_norm="batch")
        w, (loss, g) = problem.vector(), problem.loss_and_gradient()
        ways = {"gradient": [unit(g)], "random": [unit(torch.randn(len(w), generator=source)) for _ in range(DRAWS)]}
        for name, own in ways.items():
            losses = [[problem.loss(w + length * way) - loss for way in own] for length in config.lengths]
            found[name].append(torch.tensor(losses).mean(1))
    return {name: torch.stack(own).mean(0).tolist() for name, own in found.items()}


def sentence(config: Config) -> str:
    """Conditions."""
    return (
        f"Bars: 95 %. Learning rate {config.lr:g} for all: SGD and random e are better at their own, see rule_table. "
        f"Middle: batches of 128 with their own statistics, SAM's networks those "
        f"of |e| = {config.tuned:g}. Right: |e| = {config.tuned:g} before "
        "weights are left out; black: all of them (SAM), dotted: none (SGD)."
    )


def claims(config: Config, errors: Curves, rises: Mapping[str, Sequence[Mapping[str, Sequence[float]]]]) -> list[Claim]:
    """Seed by seed; of each ball the length that is best for the other seeds."""
    where = "Foret et al. 2021, C.5 and figure 6"
    less = difference(at_best_of_others(errors["p = 2"]), at_best_of_others(errors["p = ∞"]))
    text = f"{points(less)}, each at its best length"
    found = [Claim(where, "p = 2 errs less than p = ∞", text, verdict(less, -1))]
    at = config.lengths.index(config.tuned)
    for name, own in rises.items():
        less = difference([seed["random"][at] for seed in own], [seed["gradient"][at] for seed in own])
        text = f"{points(less, '', 2)} in the loss of a batch at |e| = {config.tuned:g}, networks of {name}"
        found.append(Claim(where, "a random direction finds a smaller loss than SAM's", text, verdict(less, -1)))
    for name in MASKS.values():
        half = min(config.sparsities)
        more = difference(errors[name][half], errors["p = 2"][config.tuned])
        claim = f"{name} with {100 * half:g} % of the weights left out errs no more than SAM (at most {SAME:g} point)"
        found.append(Claim("Mi et al. 2022, abstract", claim, points(more), lies_in(more, -inf, SAME)))
    return found


def draw(config: Config, errors: Curves, rises: Mapping[str, Sequence[Mapping[str, Sequence[float]]]]) -> Figure:
    """Three panels, means and intervals over seeds."""
    figure = Figure(figsize=(9.4, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for name in RULES:
        line(left, config.lengths, list(errors[name].values()), LOOKS[name], name)
    for (name, own), color in zip(rises.items(), ("black", BLUE), strict=True):
        for way, mark in (("gradient", "s-"), ("random", "o--")):
            values = [interval([seed[way][i] for seed in own])[0] for i in range(len(config.lengths))]
            middle.plot(config.lengths, values, mark, color=color, ms=4, lw=1.0, label=f"{name}, {way}")
    for name, look in zip(MASKS.values(), (OTHERS[0], (RED, "v")), strict=True):
        line(right, [100 * share for share in config.sparsities], list(errors[name].values()), look, name)
    line(right, [0.0], [errors["p = 2"][config.tuned]], ("black", "s"), "SAM")
    for ax in (left, right):
        ax.axhline(interval(errors["SGD"][0.0])[0], color="black", linewidth=0.8, linestyle=":", label="SGD")
        ax.set_ylabel("test error (%)")
    left.set(xlabel="length of the perturbation, |e|", xscale="log", yscale="log")
    left.set_yticks([5, 10, 20, 50, 90], ["5", "10", "20", "50", "90"])
    middle.set(xlabel="distance from the network, |e|", ylabel="rise of a batch's loss", xscale="log")
    middle.set_yscale("symlog", linthresh=1e-3)
    middle.set_ylim(-2e-4, 10)
    for ax in (left, middle):
        ax.set_xticks(config.lengths, [f"{length:g}" for length in config.lengths])
        ax.minorticks_off()
    right.set_xlabel("weights left out (%)")
    for ax in (left, middle, right):
        legend_above(ax, columns=3 if ax is left else 2)
    return figure


def line(ax: Axes, x: Sequence[float], values: Sequence[Sequence[float]], look: tuple[str, str], label: str) -> None:
    """Means with their 95 % intervals."""
    found = [interval(own) for own in values]
    ax.vlines(x, [own[1] for own in found], [own[2] for own in found], color=look[0], linewidth=1.1)
    ax.plot(x, [own[0] for own in found], f"{look[1]}-", color=look[0], ms=4, lw=1.0, label=label)


if __name__ == "__main__":
    command(main, Config)
