"""Does sharpness that knows the symmetry follow the gap better? Many diagonal networks on one sparse regression.

x ↦ <u ∘ v, x> has the symmetry uⱼ → c uⱼ, vⱼ → vⱼ / c. Networks that differ in seed, scale of the start and learning
rate fit the same n < d noiseless samples of a sparse β*; their expected test loss is |u ∘ v − β*|². Kendall's τ of
adaptive and of both geodesic sharpnesses with the gap is set beside the published values.
Source: da Silva et al. 2025, arXiv:2505.05409; sizes and settings of theirs are not known here, those below assumed.

Finished networks and measurements are kept in the folder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

import landscape as ls
from analysis_scripts._shared.frame import command, kept_tensors, publish
from landscape.plots import plot_metric_against_gap, plot_tau_forest
from landscape.plots.style import RED, SMALL

PUBLISHED = {"adaptive": -0.68, "inv": -0.83, "mix": -0.86}


@dataclass(frozen=True)
class Config:
    """What is trained and measured; rho was fixed before any correlation was seen, the other radii are a check."""

    networks: int = 80
    inputs: int = 40  # d
    samples: int = 20  # n
    nonzero: int = 4  # of β*, each 1
    init: tuple[float, float] = (0.02, 1.0)  # standard deviation of u and v at the start, even in its logarithm
    lr: tuple[float, float] = (0.003, 0.02)  # likewise
    batch: int = 5
    loss: float = 1e-5  # of all samples, where a network's training ends
    steps: int = 40_000  # at most
    rho: float = 0.1
    others: tuple[float, ...] = (0.01, 0.001)
    ascent: int = 200  # steps at most
    folder: str = "figures/geodesic_vs_adaptive"


class Products(nn.Module):
    """x ↦ <u ∘ v, x>; with u and v of R rows, R networks side by side, which optimisers keep apart."""

    def __init__(self, u: Tensor, v: Tensor) -> None:
        super().__init__()
        self.u, self.v = nn.Parameter(u.clone()), nn.Parameter(v.clone())  # (d,) or (R, d)

    def forward(self, x: Tensor) -> Tensor:
        return (self.u * self.v) @ x.T  # (n,) or (R, n)


def regression(config: Config) -> tuple[Tensor, Tensor, Tensor]:
    """x (n, d), y (n,) and β* (d,)."""
    x = torch.randn(config.samples, config.inputs, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    truth = torch.zeros(config.inputs, dtype=torch.float64)
    truth[: config.nonzero] = 1
    return x, x @ truth, truth


def spread(low: float, high: float, count: int, source: torch.Generator) -> Tensor:
    """Numbers even in their logarithm, in random order, (count,)."""
    order = torch.randperm(count, generator=source)
    return (low * (high / low) ** torch.linspace(0, 1, count, dtype=torch.float64))[order]


def train(config: Config) -> dict[str, Tensor]:
    """u and v (R, d), init and lr (R,), and the loss on all samples where training ended, (R,)."""
    source = torch.Generator().manual_seed(1)
    init, lr = (spread(*span, config.networks, source) for span in (config.init, config.lr))
    start = torch.randn(2, config.networks, config.inputs, generator=source, dtype=torch.float64) * init[:, None]
    model, (x, y, _) = Products(start[0], start[1]), regression(config)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)  # the learning rates are weights of the networks' losses
    rates = lr
    for step in tqdm(range(config.steps), desc="train", disable=None):
        picked = torch.randperm(config.samples, generator=source)[: config.batch]
        optimizer.zero_grad()
        losses = (model(x[picked]) - y[picked]).square().mean(1)
        (rates * losses).sum().backward()
        optimizer.step()
        if step % 100 == 99:
            rates = torch.where(whole_loss(model, x, y) > config.loss, lr, 0.0)
            if not rates.any():
                break
    return {"u": model.u.detach(), "v": model.v.detach(), "init": init, "lr": lr, "loss": whole_loss(model, x, y)}


@torch.no_grad()
def whole_loss(model: Products, x: Tensor, y: Tensor) -> Tensor:
    """The loss of each network on all samples, (R,)."""
    return (model(x) - y).square().mean(1)


def sharpness(config: Config, u: Tensor, v: Tensor, rho: float) -> dict[str, float]:
    """The three sharpnesses of one network, by the same ascent."""
    x, y, _ = regression(config)
    problem = ls.Problem(Products(u, v), F.mse_loss, (x, y))
    origin, steps = problem.loss_and_gradient(), config.ascent
    found = {"adaptive": ls.metrics.worst_case_gap(problem, rho=rho, geometry="adaptive", steps=steps, origin=origin)}
    for metric in ("inv", "mix"):
        found[metric] = ls.metrics.geodesic(
            problem, rho=rho, metric=metric, weight_pairs=[("u", "v")], steps=steps, origin=origin
        )
    return {name: float(own.value) for name, own in found.items()}


def measure(config: Config, networks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every sharpness at every radius, as in "mix, ρ = 0.1", (R,) each."""
    table: dict[str, list[float]] = {}
    for u, v in tqdm(list(zip(networks["u"], networks["v"], strict=True)), desc="measure", disable=None):
        for rho in (config.rho, *config.others):
            for name, value in sharpness(config, u, v, rho).items():
                table.setdefault(f"{name}, ρ = {rho:g}", []).append(value)
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in table.items()}


def main(config: Config) -> dict[str, Any]:
    """Train, measure, correlate."""
    folder = Path(config.folder)
    networks = kept_tensors(folder / "networks", config, lambda: train(config))
    values = kept_tensors(folder / "sharpness", config, lambda: measure(config, networks))
    truth = regression(config)[2]
    gap = (networks["u"] * networks["v"] - truth).square().sum(1) - networks["loss"]
    table = {"generalization_gap": gap, "init": networks["init"], "lr": networks["lr"], **values}
    fitted = networks["loss"] <= config.loss
    columns = [own[fitted].tolist() for own in table.values()]
    rows = [dict(zip(table, row, strict=True)) for row in zip(*columns, strict=True)]
    found = correlations(rows, [*values, "init", "lr"])
    taus = {part: {name: [t.tau, t.low, t.high] for name, t in own.items()} for part, own in found.items()}
    sentence = sentence_of(config, found, max(row[f"mix, ρ = {config.rho:g}"] for row in rows))
    content = {"sentence": sentence, "networks": len(rows), "not_fitted": config.networks - len(rows)}
    return publish(config, "geodesic", content | {"tau_low_high": taus}, partial(draw, config, rows, found))


def correlations(rows: list[dict[str, float]], names: list[str]) -> dict[str, dict[str, ls.Correlation]]:
    """τ with the gap over all networks, and over the halves with the smaller and the larger starts."""
    middle = median(row["init"] for row in rows)
    parts = {
        "all": rows,
        "smaller starts": [row for row in rows if row["init"] < middle],
        "larger starts": [row for row in rows if row["init"] >= middle],
    }
    return {part: ls.correlate(own, names) for part, own in parts.items()}


def sentence_of(config: Config, found: Mapping[str, Mapping[str, ls.Correlation]], largest: float) -> str:
    """What agrees with the paper and what does not."""

    def tau(part: str, name: str) -> str:
        own = found[part][f"{name}, ρ = {config.rho:g}"]
        return f"{name} {own.tau:+.2f} [{own.low:+.2f}, {own.high:+.2f}]"

    every = {name: found["all"][f"{name}, ρ = {config.rho:g}"] for name in PUBLISHED}
    negative = [name for name, own in every.items() if own.high < 0]
    held = [name for name, published in PUBLISHED.items() if every[name].low <= published <= every[name].high]
    inside = f"only that of {', '.join(held)}" if held else "no published value"
    return (
        f"Over all networks τ is {', '.join(tau('all', name) for name in PUBLISHED)}; published are "
        f"{', '.join(f'{published:+.2f}' for published in PUBLISHED.values())}. Agrees: clearly negative for "
        f"{', '.join(negative) or 'none'}. Differs: {inside} lies in our interval. τ hangs on the range of starts, "
        f"which is assumed: smaller half {', '.join(tau('smaller starts', name) for name in PUBLISHED)} (a split made "
        f"after the result was seen). mix reaches {largest:.0e}: where uⱼvⱼ is below ρ its ball is wider than the "
        "second order of the geodesic holds."
    )


def draw(config: Config, rows: list[dict[str, float]], found: Mapping[str, Mapping[str, ls.Correlation]]) -> Figure:
    """Each sharpness against the gap at the radius fixed before, and τ with the published values."""
    figure = Figure(figsize=(10.0, 6.8), layout="constrained")
    axes = figure.subplot_mosaic([[*PUBLISHED], ["τ"] * 3])
    middle = median(row["init"] for row in rows)
    halves = [{**row, "half": "smaller starts" if row["init"] < middle else "larger starts"} for row in rows]
    for name in PUBLISHED:
        metric = f"{name}, ρ = {config.rho:g}"
        own = found["all"][metric]
        ax = plot_metric_against_gap(halves, metric, axes[name], group="half", tau=own.tau, low=own.low, high=own.high)
        ax.set_yscale("log")
        if name != "mix" and (legend := ax.get_legend()) is not None:  # one for all three
            legend.remove()
    taus = {f"{name}, {part}": found[part][f"{name}, ρ = {config.rho:g}"] for part in found for name in PUBLISHED}
    ax = plot_tau_forest(taus | {"standard deviation of the start, all": found["all"]["init"]}, axes["τ"])
    for row, label in enumerate(text.get_text() for text in ax.get_yticklabels()):
        if label.partition(",")[0] in PUBLISHED:
            ax.plot([PUBLISHED[label.partition(",")[0]]], [row], "x", color=RED, markersize=6)
    cross = Line2D([], [], color=RED, marker="x", linestyle="", label="published, radius and range of starts unknown")
    ax.legend(handles=[cross], fontsize=SMALL, loc="lower right")
    return figure


if __name__ == "__main__":
    command(main, Config)
