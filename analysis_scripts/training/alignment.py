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
from torch import Tensor, nn
from torch.nn import functional as F

import landscape as ls
from analysis_scripts._shared.claims import Claim, points
from analysis_scripts._shared.digits_steps import Closure, DigitsTraining, Leading, on_first, steps
from analysis_scripts._shared.frame import Arrays, command, kept, publish
from analysis_scripts._shared.over_seeds import difference, interval, verdict
from landscape.data import Images, digits
from landscape.models import build
from landscape.plots import plot_seeds
from landscape.plots.style import look
from landscape.vectors import Vector, unit

RULES = ("sgd", "sam", "eigen_sam", "reverse_sam", "egr")
NAMES = {"sgd": "SGD", "sam": "SAM", "eigen_sam": "Eigen-SAM", "reverse_sam": "Reverse-SAM", "egr": "EGR"}
LINES: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))  # one a rule
QUANTITIES = {
    "alignment": "|ê · v₁|",
    "lambda_max": "λmax",
    "train_loss": "training loss",
    "test_loss": "test loss",
    "test_accuracy": "test accuracy",
}
PAPER, POOR = "Luo et al. 2024", 0.5
PLACES = {
    "sam": "figure on λmax",
    "eigen_sam": "figure on alignment and λmax",
    "reverse_sam": "figure on controls",
    "egr": "figure on controls",
}
SIGNS = {1: "above", -1: "below", 0: "other than"}
COMPARED = (  # rule, the other, quantity, the sign claimed of the difference
    ("sam", "sgd", "lambda_max", -1),
    ("eigen_sam", "sam", "alignment", 1),
    ("eigen_sam", "sam", "lambda_max", -1),
    ("eigen_sam", "sam", "test_accuracy", 1),
    ("reverse_sam", "sam", "train_loss", 0),
    ("reverse_sam", "sam", "test_loss", 0),
    ("egr", "sam", "train_loss", 0),
    ("egr", "sam", "test_loss", 0),
)


@dataclass(frozen=True)
class Config(DigitsTraining):
    """What is trained; every number of the figure follows from it."""

    width: int = 4
    epochs: int = 30
    rho: float = 0.1
    alpha: float = 0.2
    period: int = 10  # the paper's is 100, of 39,000 steps
    products: int = 5
    every: int = 30
    images: int = 300  # of the training set, for λmax
    eigen_images: int = 256  # for Eigen-SAM's own eigenvector
    seeds: int = 5
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


@torch.no_grad()
def judged(model: nn.Module, data: Images) -> dict[str, float]:
    """Losses on all training and test images, and accuracy on the latter, in the mode that the model is in."""
    outputs, training = model(data.test_inputs), model(data.train_inputs)
    return {
        "train_loss": float(F.cross_entropy(training, data.train_targets)),
        "test_loss": float(F.cross_entropy(outputs, data.test_targets)),
        "test_accuracy": float((outputs.argmax(1) == data.test_targets).double().mean()),
    }


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
            for key, value in {"step": step, "lambda_max": float(pairs.values[0]), **judged(model, data)}.items():
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


def ends(curves: Arrays, rule: str, name: str) -> list[float]:
    """One number a seed: alignment over the second half, the others at the end."""
    values = curves[f"{rule}/{name}"]
    found: list[float] = (values[:, values.shape[1] // 2 :].mean(1) if name == "alignment" else values[:, -1]).tolist()
    return found


def summary(curves: Arrays) -> dict[str, dict[str, Any]]:
    """Per rule: cost, and of each quantity's ends mean and interval over the seeds."""
    table: dict[str, dict[str, Any]] = {}
    for rule in RULES:
        table[rule] = {cost: float(curves[f"{rule}/{cost}"].mean()) for cost in ("passes", "products")}
        table[rule] |= {name: interval(ends(curves, rule, name)) for name in QUANTITIES}
    return table


def main(config: Config) -> dict[str, Any]:
    """Curves and their summary."""
    curves = kept(Path(config.folder) / "alignment", config, lambda: collect(config))
    table = summary(curves)
    found = {"summary": table, "sentence": sentence(table, config)}
    return publish(config, "alignment", found, partial(draw, curves), claims=claims(curves))


def sentence(table: Mapping[str, Mapping[str, Any]], config: Config) -> str:
    """The conditions, and what a step of Eigen-SAM costs."""
    cost = table["eigen_sam"]
    return (
        f"ResNet-8 of width {config.width} without norms, digits with {config.label_noise:.0%} wrong labels, ρ = "
        f"{config.rho:g}; means over {config.seeds} seeds, bands hold them all. Below: means and 95 % intervals of "
        "differences seed by seed, second half for |ê · v₁|, end for the others. An Eigen-SAM step is "
        f"{cost['passes']:g} passes and, on as many images, Hessian products: {cost['products']:.2g}."
    )


def claims(curves: Arrays) -> list[Claim]:
    """Of Luo et al.; Reverse-SAM and EGR are their controls, which theory up to second order cannot tell from SAM."""

    def told(name: str) -> str:
        return f"{interval(ends(curves, 'sam', name))[0]:.2f} for SAM"

    alignment = interval(ends(curves, "sam", "alignment"))
    poor = "agrees" if alignment[2] < POOR else "differs" if alignment[1] > POOR else "cannot say"
    text = f"{alignment[0]:.2f} [{alignment[1]:.2f}, {alignment[2]:.2f}]"
    found = [Claim(f"{PAPER}, figure on alignment", f"SAM's |ê · v₁| is poor (below {POOR:g}: our mark)", text, poor)]
    for one, other, name, sign in COMPARED:
        more = difference(ends(curves, one, name), ends(curves, other, name))
        claim = f"{QUANTITIES[name]} of {NAMES[one]} {SIGNS[sign]} {NAMES[other]}'s"
        judged = verdict(more, sign or (1 if more[0] > 0 else -1))
        found.append(Claim(f"{PAPER}, {PLACES[one]}", claim, f"{points(more, '', 3)}; {told(name)}", judged))
    return found


def draw(curves: Arrays) -> Figure:
    """One panel a quantity, one curve a rule."""
    figure = Figure(figsize=(6.8, 4.0), layout="constrained")
    colors = {rule: color for rule, (color, _) in look(RULES).items()}
    axes = figure.subplots(2, 3, sharex=True).flatten()
    for ax, (name, label) in zip(axes, QUANTITIES.items(), strict=False):
        for rule, line in zip(RULES, LINES, strict=True):
            x, values = curves[f"{rule}/step"][0], curves[f"{rule}/{name}"]
            plot_seeds(x, values, ax, label=NAMES[rule], color=colors[rule], linestyle=line)
        ax.set_ylabel(label)
        if name == "lambda_max":
            ax.set_yscale("log")
        ax.locator_params(axis="x", nbins=4)
    for ax in axes[2:5]:
        ax.set_xlabel("step")
        ax.tick_params(labelbottom=True)
    axes[5].legend(*axes[0].get_legend_handles_labels(), loc="center", frameon=False)
    axes[5].set_axis_off()
    return figure


if __name__ == "__main__":
    command(main, Config)
