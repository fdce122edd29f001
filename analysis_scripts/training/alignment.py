"""Does the perturbation point along the sharpest direction? SGD, SAM, Eigen-SAM, Reverse-SAM and EGR on digits.

Every so many steps, at the weights before the step: λmax and v₁ of the Hessian of the training loss, |ê · v₁| of the
perturbation that the step then makes from its batch (for SGD and EGR, which make none, of the batch's gradient), and
the test accuracy. Source of the claims: Luo et al. 2024, arXiv:2501.12666: SAM's alignment is poor, Eigen-SAM's is
better and its λmax is lower; Reverse-SAM (e = −ρĝ) and EGR (L + ρ|g|), which the second-order theory cannot tell
from ascent on the gradient's norm and from SAM, differ from SAM.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import landscape as ls
from analysis_scripts._shared.digits_steps import Closure, Leading, mean_and_stderr, on_first, steps
from analysis_scripts._shared.frame import Arrays, command, kept, legend_over, publish
from landscape.data import digits
from landscape.models import build
from landscape.plots import plot_seeds
from landscape.plots.style import look
from landscape.vectors import Vector, unit

RULES = ("sgd", "sam", "eigen_sam", "reverse_sam", "egr")
NAMES = {"sgd": "SGD", "sam": "SAM", "eigen_sam": "Eigen-SAM", "reverse_sam": "Reverse-SAM", "egr": "EGR"}
QUANTITIES = {"alignment": "|ê · v₁|", "lambda_max": "λmax", "test_accuracy": "test accuracy"}


@dataclass(frozen=True)
class Config:
    """What is trained; every number of the figure follows from it."""

    width: int = 4
    label_noise: float = 0.2
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 128
    epochs: int = 30
    rho: float = 0.1
    alpha: float = 0.2
    period: int = 10  # the paper's is 100, of 39,000 steps
    products: int = 5
    every: int = 30
    images: int = 300  # of the training set, for λmax
    eigen_images: int = 256  # for Eigen-SAM's own eigenvector
    seeds: int = 3
    folder: str = "figures/alignment"
    runs: str = "runs/alignment"  # each run is kept there


def rule_of(name: str, config: Config, top: Callable[[], Tensor]) -> ls.rules.Rule:
    """The rule; SGD is SAM with rho = 0, which takes one pass."""
    if name == "eigen_sam":
        return ls.rules.eigen_sam(config.rho, config.alpha, top=top, period=config.period)
    make = {"sgd": ls.rules.sam, "sam": ls.rules.sam, "reverse_sam": ls.rules.reverse_sam, "egr": ls.rules.egr}[name]
    return make(0.0 if name == "sgd" else config.rho)


def watched(rule: ls.rules.Rule) -> tuple[ls.rules.Rule, dict[str, Vector]]:
    """The same rule, and a dict whose "e" is the direction it last perturbed along: its e, without one its g."""
    last: dict[str, Vector] = {}

    def perturb(w: Vector, g: Vector, *more: Any) -> tuple[Vector | None, Any]:
        e, state = rule.perturb(w, g, *more)
        last["e"] = unit(g if e is None or not e.any() else e)
        return e, state

    return replace(rule, perturb=perturb, out=False), last


def train(name: str, seed: int, config: Config) -> Arrays:
    """One run: the quantities at each measurement, and a step's passes and Hessian products (as on one batch)."""
    data = digits(config.label_noise, seed)
    model = build("resnet", {"width": config.width}, seed)
    leading = Leading(on_first(config.images, model, data), tol=1e-2)
    short = Leading(on_first(config.eigen_images, model, data), max_matvecs=config.products)
    rule, last = watched(rule_of(name, config, lambda: short().vectors[:, 0]))
    optimizer, closures = steps(model, rule, data, config, seed)
    found: dict[str, list[float]] = {key: [] for key in ("step", *QUANTITIES)}
    passes = 0

    def counted(closure: Closure) -> Tensor:
        nonlocal passes
        passes += 1
        return closure()

    for step, closure in enumerate(closures):
        if watching := step % config.every == 0:
            pairs = leading()
            with torch.no_grad():
                right = (model(data.test_inputs).argmax(1) == data.test_targets).double().mean()
            for key, value in (("step", step), ("lambda_max", float(pairs.values[0])), ("test_accuracy", float(right))):
                found[key].append(value)
        optimizer.step(partial(counted, closure))
        if watching:
            found["alignment"].append(abs(float(last["e"] @ pairs.vectors[:, 0])))
    products = config.products * config.eigen_images / config.batch_size / config.period if name == "eigen_sam" else 0.0
    found |= {"passes": [passes / (step + 1)], "products": [products]}
    return {key: np.array(values) for key, values in found.items()}


def collect(config: Config) -> Arrays:
    """Per rule and quantity the curves over steps, (seeds, times)."""
    seeds = range(config.seeds)
    runs = {
        rule: [kept(Path(config.runs) / f"{rule}-{seed}", config, partial(train, rule, seed, config)) for seed in seeds]
        for rule in RULES
    }
    return {f"{rule}/{key}": np.stack([run[key] for run in own]) for rule, own in runs.items() for key in own[0]}


def summary(curves: Arrays) -> dict[str, dict[str, float]]:
    """Per rule: alignment over the second half, final λmax and test accuracy with standard errors, cost."""
    table = {}
    for rule in RULES:
        aligned = curves[f"{rule}/alignment"]
        half = aligned.shape[1] // 2
        table[rule] = {cost: float(curves[f"{rule}/{cost}"].mean()) for cost in ("passes", "products")}
        table[rule] |= mean_and_stderr("alignment", aligned[:, half:].mean(1))
        for name in ("lambda_max", "test_accuracy"):
            table[rule] |= mean_and_stderr(name, curves[f"{rule}/{name}"][:, -1])
    return table


def main(config: Config) -> dict[str, Any]:
    """Curves and their summary."""
    curves = kept(Path(config.folder) / "alignment", config, lambda: collect(config))
    table = summary(curves)
    return publish(config, "alignment", {"summary": table, "sentence": sentence(table)}, partial(draw, curves))


def sentence(table: Mapping[str, Mapping[str, float]]) -> str:
    """What the summary says of the paper's claims, in one sentence; a difference counts from 2 standard errors on."""

    def against_sam(rule: str, name: str) -> str:
        one, sam = table[rule], table["sam"]
        error = (one[f"{name}_stderr"] ** 2 + sam[f"{name}_stderr"] ** 2) ** 0.5
        difference = one[name] - sam[name]
        verdict = "not apart" if abs(difference) < 2 * error else "above" if difference > 0 else "below"
        return f"{NAMES[rule]} {one[name]:.3g} ({verdict})"

    others = [rule for rule in RULES if rule != "sam"]
    parts = [
        f"{label}: SAM {table['sam'][name]:.3g}, " + ", ".join(against_sam(rule, name) for rule in others)
        for name, label in QUANTITIES.items()
    ]
    cost = table["eigen_sam"]
    return (
        "Against SAM, by 2 standard errors over the seeds, second half for |ê · v₁|, end for the others: "
        f"{'; '.join(parts)}; an Eigen-SAM step is {cost['passes']:g} passes and {cost['products']:.2g} "
        "Hessian products on as many images."
    )


def draw(curves: Arrays) -> Figure:
    """One panel a quantity, one curve a rule."""
    figure = Figure(figsize=(9.5, 3.9), layout="constrained")
    colors = {rule: color for rule, (color, _) in look(RULES).items()}
    axes = figure.subplots(1, len(QUANTITIES))
    for ax, (name, label) in zip(axes, QUANTITIES.items(), strict=True):
        for rule in RULES:
            x, values = curves[f"{rule}/step"][0], curves[f"{rule}/{name}"]
            plot_seeds(x, values, ax, label=NAMES[rule], color=colors[rule])
        ax.set(xlabel="step", ylabel=label)
        ax.locator_params(axis="x", nbins=4)
    axes[1].set_yscale("log")
    legend_over(figure, axes[0], 5)
    return figure


if __name__ == "__main__":
    command(main, Config)
