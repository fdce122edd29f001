"""Is the Fisher matrix the curvature of the divergence? KL between predictions beside ½dᵀFd, for shorter and shorter d.

A perceptron with tanh on digits, in float64: along the gradient, the leading eigenvector of F and a random direction
the ratio of KL(p(w) ‖ p(w + d)) to ½dᵀFd goes to 1. What is missing is of third order in |d|, so the ratio is off by
c |d|; its mean over d and −d is off by c' |d|². KL the other way round has the same limit.
The claim: Martens 2020, arXiv:1412.1193, section 6, KL = ½dᵀFd + O(|d|³).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

import landscape as ls
from analysis_scripts._shared.claims import Claim
from analysis_scripts._shared.frame import command, publish
from landscape.data import digits
from landscape.models import build
from landscape.plots.style import BLUE, GREY, RED, legend_above
from landscape.vectors import unit

LOOKS = {"gradient": (BLUE, "s"), "leading eigenvector of F": (RED, "o"), "random": (GREY, "^")}
LIMIT, ORDER = 1e-4, 0.1  # of the ratio's distance from 1 at the shortest d; of the exponents' from 1 and 2
ORDERS = {"odd part": 1, "both sides": 2}  # of the ratio
Ratios = Mapping[str, Mapping[str, Tensor]]  # direction, "one side" | "odd part" | "both sides" | "reverse", (lengths,)


@dataclass(frozen=True)
class Config:
    """What is trained and measured; every number of the figure follows from it."""

    hidden: int = 32
    steps: int = 100  # of Adam, on all images
    lr: float = 0.01
    images: int = 400
    shortest: float = 1e-5
    longest: float = 1.0
    lengths: int = 16
    fitted: tuple[float, float] = (1e-3, 1e-2)  # |d| between which the exponents are read
    folder: str = "figures/fisher_and_divergence"


def main(config: Config) -> dict[str, Any]:
    """Train and measure."""
    problem, lengths = trained(config), np.geomspace(config.shortest, config.longest, config.lengths)
    found = {name: ratios(problem, way, torch.from_numpy(lengths)) for name, way in directions(problem).items()}
    exponents = {name: {kind: exponent(lengths, own[kind], config) for kind in ORDERS} for name, own in found.items()}
    arrays = {f"{name}/{kind}": own for name, kinds in found.items() for kind, own in kinds.items()}
    content = {"sentence": sentence(config, problem), "exponents": exponents}
    figure = partial(draw, lengths, found)
    return publish(
        config,
        "divergence",
        content,
        figure,
        arrays={"length": lengths, **arrays},
        claims=claims(found, exponents),
    )


def trained(config: Config) -> ls.Problem:
    """The loss of a perceptron on the first digits, in float64."""
    data = digits()
    x, y = data.train_inputs[: config.images].double(), data.train_targets[: config.images]
    model: Any = build("mlp", {"hidden": [config.hidden]}, seed=0).double()
    model[2] = nn.Tanh()  # with kinks, as of a ReLU, there is no third order
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    for _ in range(config.steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return ls.Problem(model, F.cross_entropy, (x, y))


def directions(problem: ls.Problem) -> dict[str, Tensor]:
    """Unit vectors, (P,) each."""
    drawn = torch.randn(problem.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    leading = ls.top_eigenpairs(ls.fisher(problem), 1).vectors[:, 0]
    return dict(zip(LOOKS, (unit(problem.gradient()), leading, unit(drawn)), strict=True))


def ratios(problem: ls.Problem, way: Tensor, lengths: Tensor) -> dict[str, Tensor]:
    """KL over ½dᵀFd less 1, for d = |d| way: one side, its odd and even part in d, and with the networks exchanged."""
    w = problem.vector()
    before, half = log_probabilities(problem, w), 0.5 * float(way @ ls.fisher(problem).matvec(way))
    columns: dict[str, list[float]] = {"one side": [], "odd part": [], "both sides": [], "reverse": []}
    for length in lengths.tolist():
        ahead, behind = (log_probabilities(problem, w + sign * length * way) for sign in (1, -1))
        one, other = divergence(before, ahead), divergence(before, behind)
        size = half * length**2
        columns["one side"].append(one / size - 1)
        columns["odd part"].append((one - other) / (2 * size))
        columns["both sides"].append((one + other) / (2 * size) - 1)
        columns["reverse"].append(divergence(ahead, before) / size - 1)
    return {kind: torch.tensor(own, dtype=torch.float64) for kind, own in columns.items()}


def log_probabilities(problem: ls.Problem, w: Tensor) -> Tensor:
    """Of all images and classes, (N, C)."""
    return problem.outputs(w).log_softmax(-1)


def divergence(p: Tensor, q: Tensor) -> float:
    """Mean KL(p ‖ q) of log probabilities, (N, C) each, as a sum of terms that are not negative.

    Σ p (log p − log q) cancels: p log(p/q) = p (r − log(1 + r)) + what sums to 0, r = q/p − 1.
    """
    r = torch.expm1(q - p)
    return float((p.exp() * (r - torch.log1p(r))).sum(1).mean())


def exponent(lengths: Any, values: Tensor, config: Config) -> float:
    """Of |values| over |d|, within what is fitted."""
    own = (lengths >= 0.99 * config.fitted[0]) & (lengths <= 1.01 * config.fitted[1])
    return float(np.polyfit(np.log(lengths[own]), values.abs().log().numpy()[own], 1)[0])


def sentence(config: Config, problem: ls.Problem) -> str:
    """Conditions."""
    loss = float(problem.loss())
    return f"Perceptron with tanh, {problem.size:,} parameters, {config.images} digits, mean loss {loss:.2g}."


def claims(found: Ratios, exponents: Mapping[str, Mapping[str, float]]) -> list[Claim]:
    """The limit of either divergence, and the order of what is missing."""
    paper = "Martens 2020, section 6"
    off = {kind: max(abs(float(own[kind][0])) for own in found.values()) for kind in ("one side", "reverse")}
    orders = {kind: [own[kind] for own in exponents.values()] for kind in ORDERS}
    wrong = max(abs(own - ORDERS[kind]) for kind, each in orders.items() for own in each)
    odd, even = (", ".join(f"{own:.2f}" for own in orders[kind]) for kind in ORDERS)
    return [
        Claim(
            paper,
            "KL(p(w) ‖ p(w + d)) and KL(p(w + d) ‖ p(w)) go to ½dᵀFd",
            f"at the shortest d off by {off['one side']:.0e} and {off['reverse']:.0e} of it, in 3 directions",
            "agrees" if max(off.values()) <= LIMIT else "differs",
        ),
        Claim(
            paper,
            "what is missing is O(|d|³)",
            f"the ratio's distance from 1 has an odd part like |d| to the power {odd}, an even one to {even}",
            "agrees" if wrong <= ORDER else "differs",
        ),
    ]


def draw(lengths: Any, found: Ratios) -> Figure:
    """The distance of the ratio from 1 over |d|, one side solid, both sides dashed."""
    figure = Figure(figsize=(3.4, 3.4), layout="constrained")
    ax = figure.add_subplot()
    for name, (color, marker) in LOOKS.items():
        ax.plot(lengths, found[name]["one side"].abs(), f"{marker}-", color=color, ms=3.5, lw=1.0, label=name)
        ax.plot(lengths, found[name]["both sides"].abs(), f"{marker}--", color=color, ms=3.5, lw=1.0, mfc="white")
    ax.plot([], [], "k--", lw=1.0, label="mean of d and −d")
    ax.set(xscale="log", yscale="log", xlabel="|d|", ylabel="|KL / (½dᵀFd) − 1|")
    legend_above(ax, columns=2)
    return figure


if __name__ == "__main__":
    command(main, Config)
