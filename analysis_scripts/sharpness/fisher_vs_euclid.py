"""Is the worst case of the Fisher ellipsoid another one than that of the ball, at the same divergence?

e_F ∝ F⁻¹g is the first-order maximiser of the exact Fisher ellipsoid, e_E ∝ g that of the Euclidean ball, e_D ∝ f⁻¹g,
f⁻¹ = 1/(1 + η g²), what Fisher SAM takes for e_F. Each is scaled until the predictions have moved by the same
KL(p(w) ‖ p(w + e)), the one unit that does not depend on the parametrisation. Then, along training: the rise of the
loss, the cosine between the displacements, and their lengths. To first order the ellipsoid's rise is never smaller
(Cauchy and Schwarz: g·F⁻¹g · g·Fg >= |g|⁴).
Source: Kim et al. 2022, arXiv:2206.04920; Foret et al. 2021, arXiv:2010.01412.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import brentq
from torch import Tensor
from torch.nn import functional as F

import landscape as ls
from analysis_scripts._shared.claims import Claim, said
from analysis_scripts._shared.frame import command, legend_over, publish
from analysis_scripts._shared.many_networks import measured, none_failed, training
from analysis_scripts._shared.over_seeds import interval, lies_in, verdict
from landscape.metrics.balls import ball
from landscape.plots.style import BLUE, RED
from landscape.study.network_record import load_run

NAMES = {"fisher": "Fisher ellipsoid", "fisher_diagonal": "Fisher SAM's diagonal", "euclidean": "Euclidean ball"}
COLOURS = (BLUE, "#009E73", RED)  # one for each divergence
ALIKE = 0.5  # cosine above which two displacements are alike: our mark


@dataclass(frozen=True)
class Config:
    """What is trained and measured; every number of the figure follows from it."""

    epochs: Sequence[int] = (1, 2, 4, 8, 16, 32, 60)  # at whose ends is measured
    rules: Mapping[str, Mapping[str, float]] = field(default_factory=lambda: {"sgd": {}, "sam": {"rho": 0.2}})
    seeds: Sequence[int] = (0, 1, 2)
    divergences: Sequence[float] = (1e-5, 1e-3, 1e-1)  # mean KL a sample, nats
    setting: dict[str, Any] = field(
        default_factory=lambda: {"model": "resnet", "model_settings": {"width": 4}, "label_noise": 0.2, "lr": 0.1}
    )
    samples: int = 600
    max_matvecs: int = 300  # of the linear system F x = g
    workers: int = 2
    runs: str = "runs/fisher_vs_euclid"
    folder: str = "figures/fisher_vs_euclid"


def main(config: Config) -> dict[str, Any]:
    """Train and measure."""
    own = {"epochs": max(config.epochs), "checkpoint_epochs": list(config.epochs)}
    networks = {
        (rule, seed): training(config, f"{rule}-{seed}", rule, seed, rule_settings=dict(config.rules[rule]), **own)
        for rule, seed in product(config.rules, config.seeds)
    }
    settings = {key: getattr(config, key) for key in ("epochs", "divergences", "samples", "max_matvecs")}
    kept = none_failed(measured(networks, partial(along_training, **settings), config.workers))
    rows = [{"rule": rule, "seed": seed, **row} for (rule, seed), own in kept.items() for row in own["rows"]]
    found = {"sentence": sentence(rows, config), "rows": rows}
    return publish(config, "fisher_vs_euclid", found, partial(draw, rows, config), claims=claims(rows, config))


def along_training(
    run: Path, *, epochs: Sequence[int], divergences: Sequence[float], samples: int, max_matvecs: int
) -> dict[str, Any]:
    """Rows of one network: an epoch, a divergence, a geometry each."""
    problems = {epoch: load_run(run / f"epoch-{epoch}", samples) for epoch in epochs}
    found = {epoch: compared(problem, divergences, max_matvecs) for epoch, problem in problems.items()}
    return {"rows": [{"epoch": epoch, **row} for epoch, rows in found.items() for row in rows]}


def compared(problem: ls.Problem, divergences: Sequence[float], max_matvecs: int) -> list[dict[str, Any]]:
    """Rise, length and cosine with the ellipsoid's displacement, for each divergence and geometry.

    `slope` is g·e / (eᵀFe)^½: to first order the rise at a small divergence, up to a factor that all share.
    """
    w, (loss, g) = problem.vector(), problem.loss_and_gradient()
    ways = {
        name: ball(problem, g, rho=1.0, geometry=name, p=2, eta=1.0, max_matvecs=max_matvecs).first_order(g)
        for name in NAMES
    }
    operator = ls.fisher(problem)
    slopes = {name: float(g @ e / (e @ operator.matvec(e)).sqrt()) for name, e in ways.items()}
    before = problem.outputs(w).log_softmax(-1)

    def divergence(e: Tensor) -> float:
        after = problem.outputs(w + e).log_softmax(-1)
        return float(F.kl_div(after, before, log_target=True, reduction="batchmean"))

    rows = []
    for amount in divergences:
        for name, way in ways.items():
            e = way * scale(divergence, way, amount)
            row = {"divergence": amount, "geometry": name, "rise": float(problem.loss(w + e) - loss)}
            row |= {"length": float(e.norm()), "cosine": float(F.cosine_similarity(e, ways["fisher"], dim=0))}
            rows.append(row | {"slope": slopes[name], "loss": float(loss), "kl": divergence(e)})
    return rows


def scale(divergence: Callable[[Tensor], float], way: Tensor, amount: float) -> float:
    """The first t at which divergence(t · way) is `amount`, to 1e-3: by doubling, then within the bracket."""

    def over(t: float) -> float:
        return divergence(t * way) - amount

    high = 1e-3
    while over(high) < 0:
        high *= 2
    return float(brentq(over, 0.0, high, rtol=3e-4))


def ratios(rows: Sequence[Mapping[str, Any]], rule: str, geometry: str, amount: float, key: str) -> dict[int, Tensor]:
    """Epoch to the values of the seeds, (seeds,): the ellipsoid's over the other geometry's, or the cosine."""
    found: dict[int, list[float]] = {}
    own = {(r["epoch"], r["seed"], r["geometry"]): r for r in rows if r["rule"] == rule and r["divergence"] == amount}
    for (epoch, seed, name), row in own.items():
        if name == geometry:
            best = own[epoch, seed, "fisher"]
            found.setdefault(epoch, []).append(row["cosine"] if key == "cosine" else best[key] / row[key])
    return {epoch: torch.tensor(values) for epoch, values in found.items()}


def sentence(rows: Sequence[Mapping[str, Any]], config: Config) -> str:
    """The answer in numbers."""
    said = []
    least, most = min(config.divergences), max(config.divergences)
    for rule in config.rules:
        slopes = ratios(rows, rule, "euclidean", least, "slope")
        told = [f"{rule.upper()}: to first order the ellipsoid's rise is {_span(slopes)} times the ball's"]
        for amount in (least, most):
            told.append(f"at {amount:g} nats {_span(ratios(rows, rule, 'euclidean', amount, 'rise'))} times")
        said.append(", ".join(told))
    own = {(r["rule"], r["seed"], r["epoch"], r["divergence"], r["geometry"]): r["rise"] for r in rows}
    apart = max(abs(rise / own[*key[:4], "euclidean"] - 1) for key, rise in own.items() if key[4] == "fisher_diagonal")
    diagonal = f"Fisher SAM's diagonal rises as the ball does, within {100 * apart:.2g} %: its 1 + η g² is nearly 1"
    shown = f"{config.samples} training images. Lines: means, dots: seeds; numbers of the first and last epoch."
    way = f"The ellipsoid's displacement is that of {config.max_matvecs} conjugate-gradient steps in F x = g"
    return f"{shown} {'; '.join(said)}. {diagonal}. {way}, without its flattest directions."


def claims(rows: Sequence[Mapping[str, Any]], config: Config) -> list[Claim]:
    """Over the networks of all rules and seeds, after the last epoch."""

    def at_end(geometry: str, amount: float, key: str) -> Tensor:
        return torch.cat([ratios(rows, rule, geometry, amount, key)[max(config.epochs)] for rule in config.rules])

    least, most = min(config.divergences), max(config.divergences)
    paper, found = "Kim et al. 2022, sections 3 and 4", []
    for amount in (least, most):
        doublings = interval(at_end("euclidean", amount, "rise").log2().tolist())
        text = f"at {amount:g} nats {said([2**end for end in doublings])} times the ball's"
        claim = f"at the same KL of {amount:g} nats the loss rises more in the Fisher ellipsoid than in the ball"
        found.append(Claim(paper, claim, text, verdict(doublings)))
    cosines = {name: interval(at_end(name, least, "cosine").tolist()) for name in NAMES}
    claim = f"the ellipsoid's worst case is another one than the ball's (cosine below {ALIKE:g}: our mark)"
    found.append(Claim(paper, claim, said(cosines["euclidean"]), lies_in(cosines["euclidean"], -1, ALIKE)))
    claim = f"1/(1 + η g²) stands for the ellipsoid (cosine above {ALIKE:g}: our mark)"
    return [
        *found,
        Claim(paper, claim, said(cosines["fisher_diagonal"]), lies_in(cosines["fisher_diagonal"], ALIKE, 1)),
    ]


def _span(values: Mapping[int, Tensor]) -> str:
    return f"{values[min(values)].mean():.2g} and {values[max(values)].mean():.2g}"


def draw(rows: Sequence[Mapping[str, Any]], config: Config) -> Figure:
    """Above the ratio of rises, below the cosine, over epochs; a column a rule."""
    figure = Figure(figsize=(3.4 * len(config.rules), 5.2), layout="constrained")
    axes = figure.subplots(2, len(config.rules), sharex=True, sharey="row", squeeze=False)
    for (above, below), rule in zip(axes.T, config.rules, strict=True):
        for amount, color in zip(config.divergences, COLOURS, strict=False):
            _line(above, ratios(rows, rule, "euclidean", amount, "rise"), color, f"KL = {amount:g} nats")
        slopes = ratios(rows, rule, "euclidean", config.divergences[0], "slope")
        _line(above, slopes, "black", "first order", "--")
        _line(below, ratios(rows, rule, "euclidean", config.divergences[0], "cosine"), "black", "")
        above.set_title(rule.upper())
        above.axhline(1.0, color="0.7", lw=0.7)
        below.set(xlabel="epoch", xscale="log")
        below.set_xticks(list(slopes), [str(epoch) for epoch in slopes])
        below.minorticks_off()
    axes[0][0].set(yscale="log", ylabel="rise of the loss,\nellipsoid over ball")
    axes[0][0].yaxis.set_major_formatter("{x:g}")
    axes[0][0].yaxis.set_minor_formatter("")
    axes[1][0].set_ylabel("cosine of the\ntwo displacements")
    legend_over(figure, axes[0][0], 4)
    return figure


def _line(ax: Axes, values: Mapping[int, Tensor], color: str, label: str, style: str = "-") -> None:
    """The seeds' mean, and a dot for each."""
    ax.plot(list(values), [float(seeds.mean()) for seeds in values.values()], style, color=color, label=label, lw=1.2)
    for epoch, seeds in values.items():
        ax.plot([epoch] * len(seeds), seeds.tolist(), ".", color=color, ms=3)


if __name__ == "__main__":
    command(main, Config)
