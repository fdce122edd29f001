"""Which minimum does label noise lead to? SGD and Adam on diagonal linear networks with a dense and a sparse solution.

β = u² − v² fits X = [[1, 0, t], [0, 1, t]], y = (1, 1) by the dense β = (1, 1, 0), by the sparse (0, 0, 1/t), and by
all between. With noise in the labels SGD drifts along these minima to small tr H, Adam to small tr diag(H)^½. Where
uⱼvⱼ = 0 and the loss is the mean squared error,
tr H = 4 Σⱼ |xⱼ|² |βⱼ|: 8 (dense), 8t (sparse);  tr diag(H)^½ = 2 Σⱼ |xⱼ| |βⱼ|^½: 4 (dense), 2 √(2t) (sparse),
with xⱼ the columns of X: below t = 1 both prefer the sparse one, above t = 2 the dense one, between they differ.
Source: the paper "Adam reduces a unique form of sharpness: theoretical insights near the minimizer manifold".

    python analysis_scripts/adam_implicit_bias.py

Finished networks are kept in the folder and only measured again.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from math import cos, pi
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from finished import finished
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

import landscape as ls
from landscape.plots import add_caption, save_figure
from landscape.plots.style import BLUE, GREY, RED, STYLE
from landscape.results import standard_error, versions, write_json

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam}
COLOURS = {"SGD": BLUE, "Adam": RED}


@dataclass(frozen=True)
class Config:
    """What is trained; every number of the figure follows from it."""

    ts: tuple[float, ...] = (0.6, 0.8, 1.2, 1.4, 1.6, 1.8, 2.3, 2.6)
    seeds: int = 20  # networks for each t and optimiser; they differ in start and label noise
    init: float = 1.0  # standard deviation of u and v at the start
    noise: float = 0.5  # labels are y ± noise, drawn anew at each step
    lr_sgd: float = 0.01
    lr_adam: float = 0.003
    steps: int = 200_000
    cooling: int = 20_000  # further steps with clean labels, the learning rate falling to 0
    folder: str = "figures/adam_implicit_bias"


class Diagonal(nn.Module):
    """β = u² − v² of many networks side by side, each with inputs of its own; optimisers work entry by entry."""

    def __init__(self, u: Tensor, v: Tensor) -> None:
        super().__init__()
        self.u, self.v = nn.Parameter(u.clone()), nn.Parameter(v.clone())  # (R, 3) each

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.u**2 - self.v**2)[..., None]  # (R, 2, 3) -> (R, 2, 1)


def inputs(ts: Iterable[float]) -> Tensor:
    """X for each t, (R, 2, 3)."""
    return torch.tensor([[[1.0, 0.0, t], [0.0, 1.0, t]] for t in ts], dtype=torch.float64)


def train(config: Config, name: str, ts: Iterable[float], seed: int = 0) -> Tensor:
    """u and v of one network for each t in `ts`, (R, 2, 3)."""
    source = torch.Generator().manual_seed(seed)
    x = inputs(ts)
    start = config.init * torch.randn(2, len(x), 3, generator=source, dtype=torch.float64)
    model = Diagonal(start[0], start[1])
    lr = {"SGD": config.lr_sgd, "Adam": config.lr_adam}[name]
    optimizer = OPTIMIZERS[name](model.parameters(), lr=lr)
    for step in range(config.steps + config.cooling):
        cooled = max(0, step - config.steps) / config.cooling
        optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + cos(pi * cooled))
        y = torch.ones(len(x), 2, 1, dtype=torch.float64)
        if step < config.steps:
            y += config.noise * (2 * torch.randint(2, y.shape, generator=source) - 1)
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y) * len(x)  # the sum over networks: each has the gradient of its own
        loss.backward()
        optimizer.step()
    return torch.stack([model.u.detach(), model.v.detach()], 1)


def problem_of(t: float, network: Tensor) -> ls.Problem:
    """The clean training loss of one network (2, 3)."""
    model = Diagonal(network[0], network[1])
    return ls.Problem(model, F.mse_loss, (inputs([t])[0], torch.ones(2, 1, dtype=torch.float64)))


def measured(t: float, network: Tensor) -> dict[str, float]:
    """Loss, both sharpnesses, and how much of the sparse solution there is: tβ₃, 0 for dense and 1 for sparse."""
    problem = problem_of(t, network)
    beta = network[0] ** 2 - network[1] ** 2
    return {
        "loss": float(problem.loss()),
        "trace": float(ls.metrics.trace(problem).value),
        "adam_sharpness": float(ls.metrics.adam_sharpness(problem).value),
        "sparse": t * float(beta[2]),
    }


def networks(config: Config) -> dict[str, Tensor]:
    """All networks of each optimiser, (len(ts), seeds, 2, 3)."""
    repeated = [t for t in config.ts for _ in range(config.seeds)]
    return {name: train(config, name, repeated).view(len(config.ts), config.seeds, 2, 3) for name in OPTIMIZERS}


def main(config: Config) -> dict[str, Any]:
    """Train, measure, write data, settings, the sentence and the figure."""
    folder = Path(config.folder)
    found = finished(folder / "networks", config, networks)
    columns: dict[str, dict[str, Tensor]] = {}
    for name, own in found.items():
        rows = [[measured(t, network) for network in group] for t, group in zip(config.ts, own, strict=True)]
        columns[name] = {
            key: torch.tensor([[row[key] for row in group] for group in rows], dtype=torch.float64)
            for key in rows[0][0]
        }  # each (len(ts), seeds)
    table = {
        name: {key: {"mean": v.mean(1).tolist(), "stderr": standard_error(v.T).tolist()} for key, v in own.items()}
        for name, own in columns.items()
    }
    sentence = sentence_of(config, columns)
    content = {"config": asdict(config), "versions": versions(), "by_t": table, "sentence": sentence}
    write_json(folder / "implicit_bias.json", content)
    arrays = {f"{name}/{key}": v.numpy() for name, own in columns.items() for key, v in own.items()}
    np.savez_compressed(folder / "implicit_bias.npz", ts=np.array(config.ts), **arrays)  # type: ignore[arg-type]
    with matplotlib.rc_context(STYLE):
        save_figure(draw(config, columns, sentence), folder / "implicit_bias")
    return content


def sentence_of(config: Config, columns: dict[str, dict[str, Tensor]]) -> str:
    """What agrees with the paper and what does not."""
    parts = []
    for low, high, where in ((0.0, 1.0, "t < 1"), (1.0, 2.0, "1 < t < 2"), (2.0, np.inf, "t > 2")):
        inside = [low < t < high for t in config.ts]
        if any(inside):
            shares = {name: float((own["sparse"][inside] > 0.5).double().mean()) for name, own in columns.items()}
            parts.append(f"{where}: " + ", ".join(f"{name} {own:.0%}" for name, own in shares.items()))
    return f"Networks that end nearer to the sparse solution: {'; '.join(parts)} ({config.seeds} starts for each t)."


def draw(config: Config, columns: dict[str, dict[str, Tensor]], sentence: str) -> Figure:
    """How sparse the solutions are, and both sharpnesses, over t."""
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    axes = figure.subplots(1, 3)
    t = np.linspace(min(config.ts), max(config.ts), 200)
    lines = {
        "trace": ("tr H", 8 + 0 * t, 8 * t),
        "adam_sharpness": ("tr diag(H)^½", 4 + 0 * t, 2 * np.sqrt(2 * t)),
        "sparse": ("t β₃: 1 is the sparse solution, 0 the dense", 0 * t, 1 + 0 * t),
    }
    for ax, key in zip(axes, ("sparse", "trace", "adam_sharpness"), strict=True):
        label, dense, sparse = lines[key]
        ax.plot(t, sparse, color=GREY, linewidth=0.8, linestyle="--", label="sparse solution, closed form")
        ax.plot(t, dense, color=GREY, linewidth=0.8, label="dense solution, closed form")
        for name in OPTIMIZERS:
            draw_runs(ax, config, columns[name][key], name)
        ax.axvspan(1, 2, color="0.95", linewidth=0, zorder=0)
        ax.set(xlabel="t", ylabel=label)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=7.5, frameon=False
    )
    add_caption(figure, sentence)
    return figure


def draw_runs(ax: Axes, config: Config, values: Tensor, name: str) -> None:
    """Every network as a dot, the means with their 95 % intervals."""
    shift = {"SGD": -0.02, "Adam": 0.02}[name]
    ts = np.array(config.ts) + shift
    ax.plot(np.repeat(ts, values.shape[1]), values.ravel(), ".", color=COLOURS[name], markersize=2.5, alpha=0.35)
    mean, error = values.mean(1), 1.96 * standard_error(values.T)
    ax.errorbar(
        ts, mean, error, fmt="o-", color=COLOURS[name], markersize=4, linewidth=1, label=f"{name}, mean and 95 %"
    )


if __name__ == "__main__":
    main(Config())
