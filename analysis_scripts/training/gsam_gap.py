"""The surrogate gap along GSAM: does 2h/ρ² follow λmax, and what does α do to the gap and to the angle?

h = L(w + ρĝ) − L(w) = ρ|g| + ½ρ² ĝᵀHĝ + O(ρ³). So 2h/ρ² is λmax only where g is small against ρ λmax and ĝ along v₁;
elsewhere 2(h − ρ|g|)/ρ² → ĝᵀHĝ ≤ λmax is what the gap tells of the curvature. All on the first training images, at
the weights before a step. Source: Zhuang et al. 2022, arXiv:2203.08065: Lemma 3.3 and figure 4 (2h/ρ² against λmax),
figure 8 (the cosine of ∇f and ∇f_p), figure 9 (the gap for several α).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import landscape as ls
from analysis_scripts._shared.claims import Claim, points
from analysis_scripts._shared.digits_steps import DigitsTraining, Leading, on_first, steps
from analysis_scripts._shared.frame import Arrays, command, kept, publish
from analysis_scripts._shared.over_seeds import difference, interval, verdict
from landscape.data import digits
from landscape.models import build
from landscape.plots import plot_seeds
from landscape.plots.style import BLUE, GREY, RED, legend_above
from landscape.vectors import unit

CURVATURES = {
    "lambda_max": ("λmax", {"color": "#000000"}),
    "two_h_over_rho2": ("2h/ρ²", {"color": RED, "linestyle": "--"}),
    "curvature_along_gradient": ("2(h − ρ|g|)/ρ²", {"color": BLUE, "linestyle": "-."}),
    "along_gradient": ("ĝᵀHĝ", {"color": GREY, "linestyle": ":"}),
}
LINES: tuple[dict[str, str], ...] = (  # one an α
    {"color": "#000000", "linestyle": "-"},
    {"color": "#56B4E9", "linestyle": "--"},
    {"color": "#009E73", "linestyle": ":"},
    {"color": "#D55E00", "linestyle": "-."},
)
NEAR = 0.1  # a ratio this near to 1 is about 1


@dataclass(frozen=True)
class Config(DigitsTraining):
    """What is trained; every number of the figure follows from it."""

    alphas: tuple[float, ...] = (0.0, 0.1, 0.4, 0.7)
    shown: float = 0.4  # whose curvatures are drawn
    rho: float = 0.1
    width: int = 8
    epochs: int = 50
    every: int = 45
    images: int = 400  # of the training set, for what is measured
    seeds: int = 5
    folder: str = "figures/gsam_gap"
    runs: str = "runs/gsam_gap"  # each run is kept there


def measured(problem: ls.Problem, leading: Leading, rho: float) -> dict[str, float]:
    """λmax, the gap and what is made of it, ĝᵀHĝ, and the cosine between ∇f and ∇f_p."""
    loss, g = problem.loss_and_gradient()
    gap = ls.metrics.surrogate_gap(problem, rho=rho, origin=(loss, g))
    u = unit(g)
    g_p = problem.gradient(problem.vector() + rho * u)
    return {
        **{name: float(gap.details[name]) for name in ("two_h_over_rho2", "curvature_along_gradient")},
        "gap": float(gap.value),
        "gradient_norm": float(g.norm()),
        "lambda_max": float(leading().values[0]),
        "along_gradient": float(u @ (ls.hessian(problem) @ u)),
        "cosine": float(u @ unit(g_p)),
    }


def train(alpha: float, seed: int, config: Config) -> Arrays:
    """One run of GSAM: each measured quantity over the steps."""
    data = digits(config.label_noise, seed)
    model = build("resnet", {"width": config.width}, seed)
    problem = on_first(config.images, model, data)
    leading = Leading(problem, tol=1e-2)
    optimizer, closures = steps(model, ls.rules.gsam(config.rho, alpha), data, config, seed)
    found: dict[str, list[float]] = {}
    for step, closure in enumerate(closures):
        if step % config.every == 0:
            for name, value in {"step": step, **measured(problem, leading, config.rho)}.items():
                found.setdefault(name, []).append(value)
        optimizer.step(closure)
    return {name: np.array(values) for name, values in found.items()}


def collect(config: Config) -> Arrays:
    """Per α and quantity the curves over steps, (seeds, times)."""
    found: Arrays = {}
    for alpha in config.alphas:
        runs = [
            kept(Path(config.runs) / f"{alpha:g}-{seed}", config, partial(train, alpha, seed, config))
            for seed in range(config.seeds)
        ]
        found |= {f"{alpha}/{key}": np.stack([run[key] for run in runs]) for key in runs[0]}
    return found


def late(curves: Arrays, alpha: float, config: Config) -> dict[str, list[float]]:
    """One number a seed: medians over the second half of the training; last_...: at the end."""
    own = {key.partition("/")[2]: values for key, values in curves.items() if key.startswith(f"{alpha}/")}
    half = {name: values[:, values.shape[1] // 2 :] for name, values in own.items()}
    top = half["lambda_max"]
    found = {
        "two_h_over_rho2_to_lambda_max": half["two_h_over_rho2"] / top,
        "corrected_to_along_gradient": half["curvature_along_gradient"] / half["along_gradient"],
        "along_gradient_to_lambda_max": half["along_gradient"] / top,
        "gradient_share_of_gap": config.rho * half["gradient_norm"] / half["gap"],
        "cosine": half["cosine"],
        "last_gap": half["gap"][:, -1:],
        "last_lambda_max": top[:, -1:],
    }
    return {name: np.median(values, 1).tolist() for name, values in found.items()}


def main(config: Config) -> dict[str, Any]:
    """Curves and their summary."""
    curves = kept(Path(config.folder) / "gsam_gap", config, lambda: collect(config))
    runs = {alpha: late(curves, alpha, config) for alpha in config.alphas}
    table = {str(alpha): {key: interval(values) for key, values in own.items()} for alpha, own in runs.items()}
    found = {"summary": table, "sentence": sentence(table, config)}
    return publish(config, "gsam_gap", found, partial(draw, curves, config), claims=claims(runs, config))


def sentence(table: Mapping[str, Mapping[str, Sequence[float]]], config: Config) -> str:
    """The conditions, and why 2h/ρ² is not λmax."""
    own = table[str(config.shown)]
    return (
        f"ResNet-8 of width {config.width} without norms, digits with {config.label_noise:.0%} wrong labels, ρ = "
        f"{config.rho:g}; measured on {config.images} training images; means over {config.seeds} seeds, bands hold "
        f"them all, down to the axis where a seed is below 0. Second half of the training, medians of each seed, α = "
        f"{config.shown:g}: ρ|g| makes {own['gradient_share_of_gap'][0]:.0%} of the gap; without it, 2(h − ρ|g|)/ρ² is "
        f"{own['corrected_to_along_gradient'][0]:.2f} ĝᵀHĝ, which is {own['along_gradient_to_lambda_max'][0]:.2f} λmax."
    )


def claims(runs: Mapping[float, Mapping[str, Sequence[float]]], config: Config) -> list[Claim]:
    """Of Zhuang et al.; the largest α against α = 0, which is SAM, seed by seed."""
    low, high = min(runs), max(runs)
    ratio = interval(runs[config.shown]["two_h_over_rho2_to_lambda_max"])
    angle = interval([1 - value for value in runs[config.shown]["cosine"]])
    about = "differs" if ratio[1] > 1 + NEAR or ratio[2] < 1 - NEAR else "cannot say"
    if ratio[1] >= 1 - NEAR and ratio[2] <= 1 + NEAR:
        about = "agrees"
    paper, here = "Zhuang et al. 2022", f"α = {config.shown:g}"
    text = f"2h/ρ² is {ratio[0]:.2f} [{ratio[1]:.2f}, {ratio[2]:.2f}] times λmax along the training, not at a minimum"
    found = [
        Claim(f"{paper}, lemma 3.3, figure 4 (middle)", f"2h/ρ² is λmax within {NEAR:.0%}, {here}", text, about),
        Claim(
            f"{paper}, figure 8",
            f"∇f(w) and ∇f(w + ρĝ) are at an angle, {here}",
            f"1 − cos is {points(angle, '', 3)}",
            verdict(angle),
        ),
    ]
    for key, place, label in (("last_gap", "figure 9", "gap h"), ("last_lambda_max", "figure 4 (right)", "λmax")):
        less = difference(runs[high][key], runs[low][key])
        text = f"at the end {points(less, '', 3)}, from {np.mean(runs[low][key]):.3g}"
        claim = f"{label} smaller at α = {high:g} than at {low:g}"
        found.append(Claim(f"{paper}, {place}", claim, text, verdict(less, -1)))
    return found


def draw(curves: Arrays, config: Config) -> Figure:
    """The curvatures of one α; gap and cosine of all."""
    figure = Figure(figsize=(6.8, 3.0), layout="constrained")
    axes = figure.subplots(1, 3)
    for name, (label, line) in CURVATURES.items():
        key = f"{config.shown}/{name}"
        plot_seeds(curves[f"{config.shown}/step"][0], curves[key], axes[0], label=label, **line)
    lowest = curves[f"{config.shown}/along_gradient"].mean(0).min()  # single seeds may have less, and below 0
    axes[0].set(ylabel=f"curvature, α = {config.shown:g}", yscale="log")
    axes[0].set_ylim(bottom=0.3 * lowest if lowest > 0 else None)
    labels = {"gap": "surrogate gap h", "cosine": "cosine of gradients"}
    for ax, (name, label) in zip(axes[1:], labels.items(), strict=True):
        for alpha, line in zip(config.alphas, LINES, strict=False):
            values = curves[f"{alpha}/{name}"]
            plot_seeds(curves[f"{alpha}/step"][0], values, ax, label=f"α = {alpha:g}", **line)
        ax.set(ylabel=label)
    for ax in axes:
        ax.set_xlabel("step")
        legend_above(ax, columns=2)
    return figure


if __name__ == "__main__":
    command(main, Config)
