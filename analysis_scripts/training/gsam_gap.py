"""The surrogate gap along GSAM: does 2h/ρ² follow λmax, and what does α do to the gap and to the angle?

h = L(w + ρĝ) − L(w) = ρ|g| + ½ρ² ĝᵀHĝ + O(ρ³). So 2h/ρ² is λmax only where g is small against ρ λmax and ĝ along v₁;
elsewhere 2(h − ρ|g|)/ρ² → ĝᵀHĝ ≤ λmax is what the gap tells of the curvature. All on the first training images, at
the weights before a step. Source: Zhuang et al. 2022, arXiv:2203.08065: Lemma 3.3 and figure 4 (2h/ρ² against λmax),
figure 8 (the cosine of ∇f and ∇f_p), figure 9 (the gap for several α).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import landscape as ls
from analysis_scripts._shared.digits_steps import Leading, mean_and_stderr, on_first, steps
from analysis_scripts._shared.frame import Arrays, command, kept, publish
from landscape.data import digits
from landscape.models import build
from landscape.plots import plot_seeds
from landscape.plots.style import BLUE, GREY, RED, legend_above
from landscape.vectors import unit

CURVATURES = {
    "lambda_max": ("λmax", {"color": "#000000"}),
    "two_h_over_rho2": ("2h/ρ²", {"color": RED}),
    "curvature_along_gradient": ("2(h − ρ|g|)/ρ²", {"color": BLUE}),
    "along_gradient": ("ĝᵀHĝ", {"color": GREY, "linestyle": "--"}),
}
COLORS = ("#E69F00", "#56B4E9", "#009E73", "#6A3D9A", "#8B1A1A")  # one an α


@dataclass(frozen=True)
class Config:
    """What is trained; every number of the figure follows from it."""

    alphas: tuple[float, ...] = (0.0, 0.1, 0.4, 0.7)
    shown: float = 0.4  # whose curvatures are drawn
    rho: float = 0.1
    width: int = 8
    label_noise: float = 0.2
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 128
    epochs: int = 50
    every: int = 45
    images: int = 400  # of the training set, for what is measured
    seeds: int = 3
    folder: str = "figures/gsam_gap"


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


def train(alpha: float, seed: int, config: Config) -> dict[str, list[float]]:
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
    return found


def collect(config: Config) -> Arrays:
    """Per α and quantity the curves over steps, (seeds, times)."""
    runs = {alpha: [train(alpha, seed, config) for seed in range(config.seeds)] for alpha in config.alphas}
    return {f"{alpha}/{key}": np.array([run[key] for run in own]) for alpha, own in runs.items() for key in own[0]}


def summary(curves: Arrays, config: Config) -> dict[str, dict[str, float]]:
    """Per α, over the second half of the training: medians of the ratios to λmax, of the gap, and of the cosine."""
    table = {}
    for alpha in config.alphas:
        own = {key.partition("/")[2]: values for key, values in curves.items() if key.startswith(f"{alpha}/")}
        late = {name: values[:, values.shape[1] // 2 :] for name, values in own.items()}
        top = late["lambda_max"]
        table[str(alpha)] = {
            "two_h_over_rho2_to_lambda_max": float(np.median(late["two_h_over_rho2"] / top)),
            "corrected_to_along_gradient": float(np.median(late["curvature_along_gradient"] / late["along_gradient"])),
            "along_gradient_to_lambda_max": float(np.median(late["along_gradient"] / top)),
            "gradient_share_of_gap": float(np.median(config.rho * late["gradient_norm"] / late["gap"])),
            **mean_and_stderr("final_lambda_max", top[:, -1]),
            **mean_and_stderr("final_gap", late["gap"][:, -1]),
            "cosine": float(np.median(late["cosine"])),
        }
    return table


def main(config: Config) -> dict[str, Any]:
    """Curves and their summary."""
    curves = kept(Path(config.folder) / "gsam_gap", config, lambda: collect(config))
    table = summary(curves, config)
    found = {"summary": table, "sentence": sentence(table, config)}
    return publish(config, "gsam_gap", found, partial(draw, curves, config))


def sentence(table: Mapping[str, Mapping[str, float]], config: Config) -> str:
    """What the summary says of the paper's claims, in one sentence."""
    own = table[str(config.shown)]
    ratio, share = own["two_h_over_rho2_to_lambda_max"], own["gradient_share_of_gap"]
    corrected, along = own["corrected_to_along_gradient"], own["along_gradient_to_lambda_max"]
    ends = ", ".join(
        f"α = {alpha:g}: {row['final_gap']:.3g} ± {row['final_gap_stderr']:.1g} and "
        f"{row['final_lambda_max']:.3g} ± {row['final_lambda_max_stderr']:.1g}"
        for alpha, row in ((alpha, table[str(alpha)]) for alpha in config.alphas)
    )
    return (
        f"Over the second half (medians, α = {config.shown:g}) 2h/ρ² is {ratio:.3g} times λmax, for ρ|g| makes "
        f"{share:.0%} of the gap; 2(h − ρ|g|)/ρ² is {corrected:.3g} times ĝᵀHĝ, which is {along:.2g} λmax; "
        f"final gap and λmax, ± standard error: {ends}."
    )


def draw(curves: Arrays, config: Config) -> Figure:
    """The curvatures of one α; gap and cosine of all."""
    figure = Figure(figsize=(9.5, 3.9), layout="constrained")
    axes = figure.subplots(1, 3)
    for name, (label, line) in CURVATURES.items():
        key = f"{config.shown}/{name}"
        plot_seeds(curves[f"{config.shown}/step"][0], curves[key], axes[0], label=label, **line)
    axes[0].set(ylabel=f"curvature, α = {config.shown:g}", yscale="log")
    for ax, (name, label) in zip(axes[1:], {"gap": "surrogate gap h", "cosine": "cos(∇f, ∇f_p)"}.items(), strict=True):
        for alpha, color in zip(config.alphas, COLORS, strict=False):
            plot_seeds(curves[f"{alpha}/step"][0], curves[f"{alpha}/{name}"], ax, label=f"α = {alpha:g}", color=color)
        ax.set(ylabel=label)
    for ax in axes:
        ax.set_xlabel("step")
        legend_above(ax, columns=2)
    return figure


if __name__ == "__main__":
    command(main, Config)
