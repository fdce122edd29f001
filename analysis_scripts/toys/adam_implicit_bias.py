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
from analysis_scripts._shared.claims import Claim, said
from analysis_scripts._shared.frame import command, kept_tensors, legend_over, publish
from analysis_scripts._shared.over_seeds import lies_in, share
from landscape.plots.style import BLUE, GREY, RED
from landscape.storage.results import standard_error

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam}
COLOURS, MARKS = {"SGD": BLUE, "Adam": RED}, {"SGD": "o", "Adam": "s"}


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
    diagonal = ls.hessian(problem).dense().diagonal()
    return {
        "loss": float(problem.loss()),
        "trace": float(diagonal.sum()),
        "adam_sharpness": float(diagonal.clamp(min=0).sqrt().sum()),
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
    arrays = {f"{name}/{key}": v for name, own in found.items() for key, v in own.items()}
    content = {"by_t": table, "sentence": sentence(config)}
    own = claims(config, {name: columns["sparse"] for name, columns in found.items()})
    return publish(config, "implicit_bias", content, partial(draw, config, found), arrays=arrays, claims=own)


def columns(config: Config, own: Tensor) -> dict[str, Tensor]:
    """What `measured` says of every network of one optimiser, (ts, starts, seeds) each."""
    rows = [measured(t, network) for t, group in zip(config.ts, own, strict=True) for network in group.flatten(0, 1)]
    return {key: torch.tensor([row[key] for row in rows], dtype=torch.float64).view(own.shape[:3]) for key in rows[0]}


def error(values: Tensor) -> Tensor:
    """Standard error of the mean over starts and seeds, (ts,)."""
    return standard_error(values.flatten(1).T)


def sentence(config: Config) -> str:
    """Conditions."""
    return (
        f"β = u² − v² on X = [[1, 0, t], [0, 1, t]], y = (1, 1) ± {config.noise:g} drawn anew at each of "
        f"{config.steps:,} steps; SGD lr {config.lr_sgd:g}, Adam lr {config.lr_adam:g}; {config.seeds} networks for "
        "each t and start, side by side. Top: white ends dense, black sparse; line: between starts whose sharpness "
        "falls to the one and to the other. Bottom: means with 95 %; grey: where the two sharpnesses prefer different "
        "solutions."
    )


def claims(config: Config, sparse: dict[str, Tensor]) -> list[Claim]:
    """The abstract's, over the networks, which are independent; intervals of Clopper and Pearson."""
    paper = "Adam reduces a unique form of sharpness, abstract"
    ts = torch.tensor(config.ts)[:, None, None]
    ends = {name: own > 0.5 for name, own in sparse.items()}

    def over(name: str, right: Tensor, some: Tensor | None = None) -> tuple[float, float, float]:
        hits = (ends[name] == right.expand(ends[name].shape)).flatten(1)
        kept = hits if some is None else hits[some]
        return share(int(kept.sum()), kept.numel())

    between, yes = ((ts > 1) & (ts < 2)).flatten(), torch.tensor([True])
    sgd, adam = over("SGD", ts < 1), over("Adam", ts < 2)
    side = over("Adam", torch.tensor(config.starts)[:, None] > ts / (2 + ts))
    apart = {name: over(name, yes, between) for name in OPTIMIZERS}
    higher, lower = apart["Adam"][1] > apart["SGD"][2], apart["Adam"][2] < apart["SGD"][1]
    return [
        Claim(
            paper,
            "with label noise SGD minimises tr H",
            f"a share of {said(sgd)} ends at the solution where it is smaller",
            lies_in(sgd, 0.9, 1),
        ),
        Claim(
            paper,
            "with label noise Adam minimises tr diag(H)^½",
            f"it has a minimum at both solutions, and a share of {said(side)} ends at the one downhill of its start; "
            f"{said(adam)} at the lower one",
            lies_in(side, 0.9, 1),
        ),
        Claim(
            paper,
            "Adam finds sparser solutions than SGD",
            f"for t between 1 and 2, {said(apart['Adam'])} by Adam and {said(apart['SGD'])} by SGD",
            "agrees" if higher else "differs" if lower else "cannot say",
        ),
    ]


def draw(config: Config, found: dict[str, dict[str, Tensor]]) -> Figure:
    """Where networks from each start end, of both optimisers, seeds side by side; both sharpnesses of the ends."""
    figure = Figure(figsize=(3.3, 7.4), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(1, 1.5))
    t = np.linspace(min(config.ts) - 0.1, max(config.ts) + 0.1, 200)
    aside = 0.03 * (np.arange(config.seeds) - (config.seeds - 1) / 2)
    ridges = {"SGD": np.where(t < 1, 0.0, 1.0), "Adam": t / (2 + t)}
    for ax, name in zip(parts[0].subplots(1, 2, sharey=True), OPTIMIZERS, strict=True):
        places = np.meshgrid(config.ts, config.starts, aside, indexing="ij")
        look = {"cmap": "Greys", "s": 9, "edgecolors": "0.3", "linewidths": 0.3}
        dots = ax.scatter(places[0] + places[2], places[1], c=found[name]["sparse"], vmin=0, vmax=1, **look)
        ax.plot(t, ridges[name], color=RED, linewidth=1.2)
        ax.set(title=name, xlabel="t", ylim=(-0.05, 1.05))
    parts[0].axes[0].set_ylabel("tβ₃ at the start")
    parts[0].colorbar(dots, ax=parts[0].axes, label="tβ₃ at the end", aspect=30)
    curves = {"trace": ("tr H", 8 + 0 * t, 8 * t), "adam_sharpness": ("tr diag(H)^½", 4 + 0 * t, 2 * np.sqrt(2 * t))}
    for ax, (key, (label, dense, sparse)) in zip(parts[1].subplots(2, 1, sharex=True), curves.items(), strict=True):
        ax.plot(t, sparse, color=GREY, linewidth=0.8, linestyle="--", label="sparse, closed form")
        ax.plot(t, dense, color=GREY, linewidth=0.8, label="dense, closed form")
        for name in OPTIMIZERS:
            draw_means(ax, config, found[name][key], name)
        ax.axvspan(1, 2, color="0.93", linewidth=0, zorder=0)
        ax.set_ylabel(label)
    parts[1].axes[1].set_xlabel("t")
    legend_over(parts[1], parts[1].axes[0], 2)
    return figure


def draw_means(ax: Axes, config: Config, values: Tensor, name: str) -> None:
    """Every network as a dot, the means with their 95 % intervals."""
    ts = np.array(config.ts) + {"SGD": -0.02, "Adam": 0.02}[name]
    each = values.flatten(1)
    ax.plot(np.repeat(ts, each.shape[1]), each.ravel(), ".", color=COLOURS[name], markersize=2.5, alpha=0.35)
    bars = 1.96 * error(values)
    ax.errorbar(ts, each.mean(1), bars, fmt=MARKS[name], color=COLOURS[name], markersize=4, label=name)


if __name__ == "__main__":
    command(main, Config)
