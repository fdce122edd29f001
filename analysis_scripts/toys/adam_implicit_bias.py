"""Which minimum does label noise lead to? SGD and Adam on diagonal linear networks with a dense and a sparse solution.

β = u² − v² fits X = [[1, 0, t], [0, 1, t]], y = (1, 1) by the dense β = (1, 1, 0), by the sparse (0, 0, 1/t), and by
all between. With noise in the labels SGD drifts along these minima to small tr H, Adam to small tr diag(H)^½. Where
uⱼvⱼ = 0 and the loss is the mean squared error,
tr H = 4 Σⱼ |xⱼ|² |βⱼ|: 8 (dense), 8t (sparse);  tr diag(H)^½ = 2 Σⱼ |xⱼ| |βⱼ|^½: 4 (dense), 2 √(2t) (sparse),
with xⱼ the columns of X: below t = 1 both prefer the sparse one, above t = 2 the dense one, between they differ. Of the
line between the two, tβ₃ from 0 to 1, tr H has one end as its only minimum, tr diag(H)^½ both, and a ridge between them
at tβ₃ = t/(2 + t). So networks start all along that line.
Source: the paper "Adam reduces a unique form of sharpness: theoretical insights near the minimizer manifold".

Finished networks are kept in the folder and only measured again.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

import landscape as ls
from analysis_scripts._shared.frame import command, kept_tensors, publish
from landscape.plots.style import BLUE, GREY, RED, SMALL
from landscape.storage.results import standard_error

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam}
COLOURS = {"SGD": BLUE, "Adam": RED}


@dataclass(frozen=True)
class Config:
    """What is trained; every number of the figure follows from it."""

    ts: tuple[float, ...] = (0.6, 0.8, 1.2, 1.4, 1.6, 1.8, 2.3, 2.6)
    starts: tuple[float, ...] = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85)  # tβ₃
    seeds: int = 4  # networks for each t, start and optimiser
    spread: float = 0.1  # standard deviation of v at the start; at v = 0 it would stay there
    noise: float = 1.0  # labels are y ± noise, drawn anew at each step
    lr_sgd: float = 0.02
    lr_adam: float = 0.02
    steps: int = 20_000
    cooling: int = 4_000  # further steps with clean labels, the learning rate falling to 0
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


def train(config: Config, name: str) -> Tensor:
    """u and v of one network for each t, start and seed, (ts, starts, seeds, 2, 3)."""
    source = torch.Generator().manual_seed(0)
    shape = (len(config.ts), len(config.starts), config.seeds)
    where = [(t, start) for t in config.ts for start in config.starts for _ in range(config.seeds)]
    x = inputs(t for t, _ in where)
    beta = torch.tensor([[1 - start, 1 - start, start / t] for t, start in where], dtype=torch.float64)  # it fits
    v = config.spread * torch.randn(beta.shape, generator=source, dtype=torch.float64)
    model = Diagonal((beta + v**2).sqrt(), v)
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
    return torch.stack([model.u.detach(), model.v.detach()], 1).view(*shape, 2, 3)


def measured(t: float, network: Tensor) -> dict[str, float]:
    """Clean loss of one network (2, 3), both sharpnesses, and tβ₃: 0 for the dense solution, 1 for the sparse one."""
    data = (inputs([t])[0], torch.ones(2, 1, dtype=torch.float64))
    problem = ls.Problem(Diagonal(network[0], network[1]), F.mse_loss, data)
    beta = network[0] ** 2 - network[1] ** 2
    return {
        "loss": float(problem.loss()),
        "trace": float(ls.metrics.trace(problem).value),
        "adam_sharpness": float(ls.metrics.adam_sharpness(problem).value),
        "sparse": t * float(beta[2]),
    }


def main(config: Config) -> dict[str, Any]:
    """Train and measure."""
    compute = lambda: {name: train(config, name) for name in OPTIMIZERS}  # noqa: E731
    trained = kept_tensors(Path(config.folder) / "networks", config, compute)
    found = {name: columns(config, own) for name, own in trained.items()}
    table = {
        name: {key: {"mean": v.mean((1, 2)).tolist(), "stderr": error(v).tolist()} for key, v in own.items()}
        for name, own in found.items()
    }
    sentence = sentence_of(config, {name: own["sparse"] for name, own in found.items()})
    arrays = {f"{name}/{key}": v for name, own in found.items() for key, v in own.items()}
    content = {"by_t": table, "sentence": sentence}
    return publish(config, "implicit_bias", content, partial(draw, config, found), arrays=arrays)


def columns(config: Config, own: Tensor) -> dict[str, Tensor]:
    """What `measured` says of every network of one optimiser, (ts, starts, seeds) each."""
    rows = [measured(t, network) for t, group in zip(config.ts, own, strict=True) for network in group.flatten(0, 1)]
    return {key: torch.tensor([row[key] for row in rows], dtype=torch.float64).view(own.shape[:3]) for key in rows[0]}


def error(values: Tensor) -> Tensor:
    """Standard error of the mean over starts and seeds, (ts,)."""
    return standard_error(values.flatten(1).T)


def sentence_of(config: Config, sparse: dict[str, Tensor]) -> str:
    """What agrees with the paper and what does not."""
    ts = torch.tensor(config.ts)[:, None, None]
    ends = {name: own > 0.5 for name, own in sparse.items()}
    right = (ends["Adam"] == (torch.tensor(config.starts)[:, None] > ts / (2 + ts))).double().mean()
    lower = (ends["SGD"] == (ts < 1)).double().mean()
    between = ends["Adam"][(ts > 1).flatten() & (ts < 2).flatten()].double().mean()
    beyond = ends["Adam"][(ts > 2).flatten()].double().mean()
    return (
        f"Agrees: SGD ends at the solution of smaller tr H from {lower:.0%} of the starts, and for t between 1 and 2, "
        f"where that is the dense one, Adam ends at the sparse one from {between:.0%}. Differs: of its own sharpness "
        "both solutions are minima, and on which side of the ridge t / (2 + t) it starts decides where Adam ends in "
        f"{right:.0%} of the runs; so {beyond:.0%} end at the sparse solution for t above 2 too, where the dense one "
        "has the smaller tr diag(H)^½."
    )


def draw(config: Config, found: dict[str, dict[str, Tensor]]) -> Figure:
    """Where networks from each start end, of both optimisers, seeds side by side; both sharpnesses of the ends."""
    figure = Figure(figsize=(7.6, 7.2), layout="constrained")
    above, below = figure.subplots(2, 2)
    t = np.linspace(min(config.ts) - 0.1, max(config.ts) + 0.1, 200)
    aside = 0.03 * (np.arange(config.seeds) - (config.seeds - 1) / 2)
    ridges = {"SGD": np.where(t < 1, 0.0, 1.0), "Adam": t / (2 + t)}
    for ax, name in zip(above, OPTIMIZERS, strict=True):
        places = np.meshgrid(config.ts, config.starts, aside, indexing="ij")
        look = {"cmap": "coolwarm", "s": 14, "edgecolors": "0.4", "linewidths": 0.3}
        dots = ax.scatter(places[0] + places[2], places[1], c=found[name]["sparse"], vmin=0, vmax=1, **look)
        ax.plot(t, ridges[name], color=GREY, linewidth=1, label="boundary in closed form")
        ax.set(title=name, xlabel="t", ylabel="tβ₃ at the start", ylim=(-0.05, 1.05))
    above[1].legend(fontsize=SMALL, loc="lower right")
    figure.colorbar(dots, ax=above, label="tβ₃ at the end: 0 dense, 1 sparse")
    curves = {"trace": ("tr H", 8 + 0 * t, 8 * t), "adam_sharpness": ("tr diag(H)^½", 4 + 0 * t, 2 * np.sqrt(2 * t))}
    for ax, (key, (label, dense, sparse)) in zip(below, curves.items(), strict=True):
        ax.plot(t, sparse, color=GREY, linewidth=0.8, linestyle="--", label="sparse solution, closed form")
        ax.plot(t, dense, color=GREY, linewidth=0.8, label="dense solution, closed form")
        for name in OPTIMIZERS:
            draw_means(ax, config, found[name][key], name)
        ax.axvspan(1, 2, color="0.95", linewidth=0, zorder=0)
        ax.set(xlabel="t", ylabel=label)
    below[0].legend(fontsize=SMALL, loc="upper left")
    return figure


def draw_means(ax: Axes, config: Config, values: Tensor, name: str) -> None:
    """Every network as a dot, the means with their 95 % intervals."""
    ts = np.array(config.ts) + {"SGD": -0.02, "Adam": 0.02}[name]
    each = values.flatten(1)
    ax.plot(np.repeat(ts, each.shape[1]), each.ravel(), ".", color=COLOURS[name], markersize=2.5, alpha=0.35)
    bars = 1.96 * error(values)
    ax.errorbar(ts, each.mean(1), bars, fmt="o", color=COLOURS[name], markersize=4, label=f"{name}, mean and 95 %")


if __name__ == "__main__":
    command(main, Config)
