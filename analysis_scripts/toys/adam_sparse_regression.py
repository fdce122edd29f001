"""Sparse regression by diagonal networks with label noise: which of SGD and Adam finds the sparse solution?

y = Xβ* with X Gaussian (n, d), n < d, and few entries of β* not 0, all ±1. β = u² − v² fits the labels in many ways,
and with noise in them SGD drifts to a small tr H, Adam to a small tr diag(H)^½. With the loss (1/n)|Xβ − y|² = 0 and
uⱼvⱼ = 0,  tr H = (8/n) Σⱼ |xⱼ|² |βⱼ|, a weighted ℓ1 norm,  tr diag(H)^½ = (8/n)^½ Σⱼ |xⱼ| |βⱼ|^½, less where sparser.
The learning rate of each optimiser is tuned on further designs. Gaussian inputs: the test loss is |β − β*|².
Source: the paper "Adam reduces a unique form of sharpness: theoretical insights near the minimizer manifold" (abstract;
its sizes are not known here).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from analysis_scripts._shared.claims import Claim, said
from analysis_scripts._shared.frame import command, kept_tensors, legend_over, publish
from analysis_scripts._shared.over_seeds import difference, interval, verdict
from landscape.plots.style import BLUE, RED, SMALL

LOOKED = 2  # times, at the differences: with 24 designs they were open
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam}
LOOKS = {"SGD": (BLUE, "-", "o"), "Adam": (RED, "--", "s")}
MEASURES = {"error": "|β − β*|²", "trace": "tr H", "adam": "tr diag(H)^½"}
NONZERO = 0.05  # of |βⱼ|; the true ones are 0 and 1


@dataclass(frozen=True)
class Config:
    """What is trained; every number of the figure follows from it."""

    inputs: int = 40  # d
    nonzero: int = 4
    samples: tuple[int, ...] = (12, 14, 16, 18, 20, 24)  # n: the first rows of each design
    designs: int = 64
    tuning: int = 12  # further designs
    lr_sgd: tuple[float, ...] = (0.005, 0.01, 0.02, 0.04, 0.06, 0.08)
    lr_adam: tuple[float, ...] = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4)
    spread: float = 0.3  # standard deviation of u and v at the start
    noise: float = 1.0  # labels are y ± noise, drawn anew at each step
    steps: int = 40_000
    cooling: int = 4_000  # further steps with clean labels, the learning rate falling to 0
    looks: int = 40  # at the measures along training
    folder: str = "figures/adam_sparse_regression"


def regressions(config: Config, designs: int, seed: int) -> tuple[Tensor, Tensor]:
    """X / √n of each n and design, rows of 0 up to the largest n, (ns · designs, n, d); β*, (ns · designs, d)."""
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(designs, max(config.samples), config.inputs, generator=source)
    order = torch.rand(designs, config.inputs, generator=source).argsort(1)
    signs = 2.0 * torch.randint(2, order.shape, generator=source) - 1
    beta = torch.where(order < config.nonzero, signs, 0.0)
    rows = torch.arange(max(config.samples))[:, None]
    parts = [torch.where(rows < n, x, 0.0) / n**0.5 for n in config.samples]
    return torch.cat(parts), beta.repeat(len(parts), 1)


def measures(x: Tensor, u: Tensor, v: Tensor, true: Tensor) -> dict[str, Tensor]:
    """|β − β*|², tr H and tr diag(H)^½ of |X(β − β*)|², X with its 1/√n, one number a network.

    Hᵤᵤ = 8|xⱼ|²uⱼ² + 4(Xᵀr)ⱼ, Hᵥᵥ = 8|xⱼ|²vⱼ² − 4(Xᵀr)ⱼ, r = X(β − β*); negative entries count as 0 under the root.
    """
    off = u**2 - v**2 - true
    pull = 4 * (x.mT @ (x @ off[..., None]))[..., 0]
    size = 8 * (x**2).sum(1)
    diagonal = torch.cat([size * u**2 + pull, size * v**2 - pull], 1)
    return {"error": (off**2).sum(1), "trace": diagonal.sum(1), "adam": diagonal.clamp(min=0).sqrt().sum(1)}


@torch.no_grad()
def train(config: Config, name: str, lr: float, designs: int, seed: int) -> dict[str, Tensor]:
    """β at the end, (networks, d), and the measures along training, (looks, networks)."""
    x, true = regressions(config, designs, seed)
    source = torch.Generator().manual_seed(seed + 1)
    u, v = (torch.nn.Parameter(config.spread * torch.randn(true.shape, generator=source)) for _ in range(2))
    optimizer = OPTIMIZERS[name]([u, v], lr=lr)
    y, used = x @ true[..., None], (x != 0).any(2, keepdim=True)
    scale = used / used.sum(1, keepdim=True).sqrt()  # the noise of a label, with the 1/√n of X
    total = config.steps + config.cooling
    found: dict[str, list[Tensor]] = {key: [] for key in MEASURES}
    for step in range(total):
        if step % (total // config.looks) == 0:
            for key, own in measures(x, u, v, true).items():
                found[key].append(own)
        cooled = max(0, step - config.steps) / config.cooling
        noise = config.noise * scale * (2 * torch.randint(2, y.shape, generator=source) - 1) * (step < config.steps)
        g = 4 * (x.mT @ (x @ (u**2 - v**2)[..., None] - y - noise))[..., 0]
        u.grad, v.grad = g * u, -g * v
        optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + cos(pi * cooled))
        optimizer.step()
    return {"beta": u**2 - v**2, "true": true, **{key: torch.stack(own) for key, own in found.items()}}


def tuned(config: Config, name: str) -> Tensor:
    """Rows of learning rate, mean error and mean tr diag(H)^½ at the end over the tuning designs and all n.

    A network that diverges counts as β = 0 in the error and as at the start in the sharpness.
    """
    rows = []
    for lr in {"SGD": config.lr_sgd, "Adam": config.lr_adam}[name]:
        run = train(config, name, lr, config.tuning, seed=1000)
        error = ((run["beta"] - run["true"]) ** 2).sum(1).nan_to_num(torch.inf).clamp(max=config.nonzero)
        sharpness = ended(config, run, config.tuning, 1000)["adam"].flatten()
        most = run["adam"][0]
        rows.append([lr, float(error.mean()), float(torch.minimum(sharpness.nan_to_num(torch.inf), most).mean())])
    return torch.tensor(rows, dtype=torch.float64)


def best(rows: Tensor, of: str) -> float:
    """The learning rate with the smallest "error" or "adam"."""
    return float(rows[rows[:, 1 + ("error", "adam").index(of)].argmin(), 0])


def main(config: Config) -> dict[str, Any]:
    """Tune, train, compare design by design."""

    def compute() -> dict[str, Tensor]:
        runs = {}
        for name in OPTIMIZERS:
            runs[f"{name}/tuning"] = tuned(config, name)
            for of in ("error", "adam"):
                run = train(config, name, best(runs[f"{name}/tuning"], of), config.designs, seed=0)
                along = {key: run[key].view(-1, len(config.samples), config.designs).mean(2) for key in MEASURES}
                runs |= {f"{name}/{of}/{key}": own for key, own in (run | along).items()}
        return runs

    runs = kept_tensors(Path(config.folder) / "networks", config, compute)
    ends = {
        (name, of): ended(config, {key: runs[f"{name}/{of}/{key}"] for key in ("beta", "true")}, config.designs, 0)
        for name in OPTIMIZERS
        for of in ("error", "adam")
    }
    table = {f"{name}, tuned for {of}": {k: v.tolist() for k, v in own.items()} for (name, of), own in ends.items()}
    tuning = {name: runs[f"{name}/tuning"].tolist() for name in OPTIMIZERS}
    content = {"by_n_and_design": table, "tuning": tuning, "sentence": sentence(config, runs)}
    figure = partial(draw, config, runs, ends)
    return publish(config, "sparse_regression", content, figure, claims=claims(ends))


def ended(config: Config, run: dict[str, Tensor], designs: int, seed: int) -> dict[str, Tensor]:
    """Of each network, (ns, designs): error, number of entries that are not 0, both sharpnesses where u v = 0."""
    beta, true = run["beta"], run["true"]
    x, _ = regressions(config, designs, seed)
    own = measures(x, beta.clamp(min=0).sqrt(), (-beta).clamp(min=0).sqrt(), true)
    own["nonzero"] = (beta.abs() > NONZERO).sum(1).double()
    return {key: value.view(len(config.samples), -1) for key, value in own.items()}


def sentence(config: Config, runs: dict[str, Tensor]) -> str:
    """Conditions."""
    rows = {name: runs[f"{name}/tuning"] for name in OPTIMIZERS}
    said = {
        name: f"{name} {best(own, 'error'):g} and {best(own, 'adam'):g} (of {own[0, 0]:g} to {own[-1, 0]:g})"
        for name, own in rows.items()
    }
    return (
        f"β = u² − v², d = {config.inputs}, {config.nonzero} entries of β* are ±1; labels ± {config.noise:g} for "
        f"{config.steps:,} steps, then clean for {config.cooling:,} (grey). lr tuned for the error (top) and for "
        f"tr diag(H)^½ (bottom): {'; '.join(said.values())}. Means over {config.designs} designs; bars: 95 %. Bottom: "
        f"n = {drawn(config)}. Designs were added once; the setting was changed before, when shorter, smaller "
        "trials gave tr diag(H)^½ the other sign."
    )


def drawn(config: Config) -> int:
    """The n whose training is shown."""
    return config.samples[len(config.samples) // 2]


def claims(ends: dict[tuple[str, str], dict[str, Tensor]]) -> list[Claim]:
    """The abstract's, design by design, over all n, by intervals that hold for both looks."""
    paper = "Adam reduces a unique form of sharpness, abstract, on sparse regression by diagonal networks"
    what = {
        ("error", "nonzero"): ("Adam finds sparser solutions than SGD", f"entries above {NONZERO:g} in size", -1),
        ("error", "error"): ("Adam generalises better than SGD", "|β − β*|²", -1),
        ("adam", "adam"): ("Adam lowers tr diag(H)^½ more than SGD", "tr diag(H)^½ at the end", -1),
        ("adam", "trace"): ("SGD lowers tr H more than Adam", "tr H at the end", 1),
    }
    by_design = {(of, key): [ends[name, of][key].mean(0).tolist() for name in ("Adam", "SGD")] for of, key in what}
    apart = {key: difference(own[0], own[1], 0.05 / LOOKED) for key, own in by_design.items()}
    mean = {key: [float(np.mean(own)) for own in both] for key, both in by_design.items()}
    return [
        Claim(
            paper,
            claim,
            f"{label} {mean[key][0]:.2f} and {mean[key][1]:.2f}, Adam − SGD {said(apart[key])} ({LOOKED} looks)",
            verdict(apart[key], sign),
        )
        for key, (claim, label, sign) in what.items()
    ]


def draw(config: Config, runs: dict[str, Tensor], ends: dict[tuple[str, str], dict[str, Tensor]]) -> Figure:
    """Error and sparsity over n above, both sharpnesses along training below."""
    figure = Figure(figsize=(3.3, 5.4), layout="constrained")
    axes = figure.subplots(2, 2)
    for ax, key, label in zip(axes[0], ("error", "nonzero"), ("|β − β*|²", "entries not 0"), strict=True):
        for name, (colour, line, mark) in LOOKS.items():
            values = np.array([interval(own) for own in ends[name, "error"][key].tolist()])
            bars = (values[:, 2] - values[:, 1]) / 2
            look: dict[str, Any] = {
                "color": colour,
                "linestyle": line,
                "marker": mark,
                "markersize": 3,
                "linewidth": 1.1,
            }
            ax.errorbar(config.samples, values[:, 0], bars, capsize=2, label=name, **look)
        ax.set(xlabel="samples n", ylabel=label)
    axes[0, 1].axhline(config.nonzero, color="0.5", linewidth=0.8, linestyle=":")
    for ax, key in zip(axes[1], ("trace", "adam"), strict=True):
        draw_along(ax, config, runs, key)
    legend_over(figure, axes[0, 0], 2)
    return figure


def draw_along(ax: Axes, config: Config, runs: dict[str, Tensor], key: str) -> None:
    """A measure along training, mean over the designs of one n, grey where the labels are clean."""
    at = config.samples.index(drawn(config))
    for name, (colour, line, _) in LOOKS.items():
        own = runs[f"{name}/adam/{key}"][:, at]
        steps = np.linspace(0, config.steps + config.cooling, len(own), endpoint=False) / 1000
        ax.plot(steps, own, line, color=colour, linewidth=1.1)
    ax.axvspan(config.steps / 1000, (config.steps + config.cooling) / 1000, color="0.9", linewidth=0)
    ax.set(xlabel="1,000 steps", ylabel=MEASURES[key], yscale="log")
    low, high = ax.get_ylim()
    ticks = [tick for tick in (10, 15, 20, 25, 30, 35, 40, 50, 60, 80, 100) if low <= tick <= high]
    ax.set_yticks(ticks, [str(tick) for tick in ticks])
    ax.yaxis.label.set_fontsize(SMALL)
    ax.minorticks_off()


if __name__ == "__main__":
    command(main, Config)
