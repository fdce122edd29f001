"""What do PAC-Bayes bounds say of small perceptrons on digits? Each number, whether it holds, and what it follows.

Networks trained by SGD, SAM and Fisher SAM, five seeds each; for each the bound of SAM's theorem as its paper and as
slides on it print it, both of the cross entropy, and the classical bound of the error of a Gaussian around the weights,
of one width or along the Fisher matrix, with priors around zero and around the weights before training.

Slides: max_{|e| <= ρ} L_S(w + e) + sqrt((1 + k log(1 + |w|²/ρ² (1 + sqrt(2 log n / k))²) + 2 log(n/δ) + 4 log(6n + 3k))
/ (4(n − 1))), with k parameters and n samples. The theorems are about losses in [0, 1], which cross entropy is not.
Source: Foret et al. 2021, arXiv:2010.01412, Theorem 2; McAllester 1999; Kim et al. 2022, arXiv:2206.04920; Zhang et al.
2025, arXiv:2510.07758.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from math import log, log1p, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

import landscape as ls
from analysis_scripts._shared.claims import Claim, points
from analysis_scripts._shared.frame import command, publish
from analysis_scripts._shared.many_networks import measured, none_failed, training
from landscape.models import build
from landscape.plots.style import GREY, SMALL, look
from landscape.storage.results import read_json
from landscape.study.network_record import load_run
from landscape.vectors import Vector

BOUNDS = {  # to the gap it is about
    "SAM, theorem 2": "loss",
    "SAM, slides": "loss",
    "Gaussian, around 0": "error",
    "Gaussian, around the start": "error",
    "along Fisher, around 0": "error",
    "along Fisher, around the start": "error",
}
NOT_IN_THE_TEXT = {
    "Kim et al. 2022, theorem 3.2": "Fisher SAM's bound: cannot be computed from the text: its constants, and the "
    "covering of the parameters that its priors lie on, are not there; beside it the classical bound along Fisher",
    "Zhang et al. 2025": "bounds in terms of Rényi sharpness: cannot be computed from the text at hand, an abstract",
}


@dataclass(frozen=True)
class Config:
    """What is trained and measured."""

    rules: Mapping[str, Mapping[str, float]] = field(
        default_factory=lambda: {"sgd": {}, "sam": {"rho": 0.1}, "fisher_sam": {"rho": 0.1}}
    )
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    setting: dict[str, Any] = field(
        default_factory=lambda: {"model": "mlp", "model_settings": {"hidden": [8]}, "epochs": 40, "lr": 0.05}
    )
    rho: float = 0.05  # of SAM's bound
    delta: float = 0.05
    sigma: Sequence[float] = (0.02, 0.05, 0.1, 0.2, 0.4)  # the lowest bound of these
    draws: int = 10
    workers: int = 2
    runs: str = "runs/pac_bayes"
    folder: str = "figures/pac_bayes"


def main(config: Config) -> dict[str, Any]:
    """Train and measure."""
    networks = {
        (rule, seed): training(config, f"{rule}-{seed}", rule, seed, rule_settings=dict(config.rules[rule]))
        for rule, seed in product(config.rules, config.seeds)
    }
    settings = {key: getattr(config, key) for key in ("rho", "delta", "sigma", "draws")}
    kept = none_failed(measured(networks, partial(bounds, **settings), config.workers))
    rows = [{"rule": rule, "seed": seed, **own} for (rule, seed), own in kept.items()]
    found = {name: ls.correlate(rows, [name], f"{of}_gap", resamples=500)[name] for name, of in BOUNDS.items()}
    content = {"sentence": sentence(rows), "rows": rows, "tau": {n: [t.tau, t.low, t.high] for n, t in found.items()}}
    return publish(config, "pac_bayes", content, partial(draw, rows), claims=claims(rows, found))


def bounds(run: Path, *, rho: float, delta: float, sigma: Sequence[float], draws: int) -> dict[str, Any]:
    """All bounds of one network, beside its losses and errors."""
    network, problem = read_json(run / "model.json"), load_run(run, batch_size=1200)
    config = network["config"]
    start = torch.nn.utils.parameters_to_vector(
        build(config["model"], config["model_settings"], config["seed"]).parameters()
    ).detach()
    n = round(sum(units for _, _, units in problem.batches_with_units()))
    theorem = ls.metrics.pac_bayes_sam(problem, rho=rho, delta=delta)
    found = {
        "SAM, theorem 2": float(theorem.value),
        "SAM, slides": theorem.details["worst_case_loss"] + slides_complexity(problem.vector(), n, rho, delta),
    }
    for (kind, covariance), (label, centre) in product(
        {"Gaussian": "isotropic", "along Fisher": "fisher"}.items(), {"0": None, "the start": start}.items()
    ):
        own = ls.metrics.pac_bayes_gaussian(
            problem, sigma=list(sigma), covariance=covariance, centre=centre, delta=delta, draws=draws
        )
        found[f"{kind}, around {label}"] = float(own.value)
    test, train = 1 - network["test_accuracy"], 1 - network["train_accuracy"]
    return {
        **found,
        "error": test,
        "loss": network["test_loss"],
        "error_gap": test - train,
        "loss_gap": network["test_loss"] - network["train_loss"],
    }


def slides_complexity(w: Vector, n: int, rho: float, delta: float) -> float:
    """The slides' term beside the worst case."""
    k, ratio = len(w), float(w.double().square().sum()) / rho**2
    norms = k * log1p(ratio * (1 + sqrt(2 * log(n) / k)) ** 2)
    return sqrt((1 + norms + 2 * log(n / delta) + 4 * log(6 * n + 3 * k)) / (4 * (n - 1)))


Rows = Sequence[Mapping[str, Any]]


def sentence(rows: Rows) -> str:
    """The networks."""
    test = 100 * np.mean([row["error"] for row in rows])
    return (
        f"{len(rows)} networks, mean test error {test:.1f} %, test loss "
        f"{np.mean([row['loss'] for row in rows]):.2f}. A bound below 1 says something of an error; above the test "
        "error or loss it holds. Classical bounds are of a network drawn from the Gaussian, at the best of its widths."
    )


def claims(rows: Rows, found: Mapping[str, ls.Correlation]) -> list[Claim]:
    """Whether each bound holds, is below 1, and orders networks as their gap does; what cannot be computed."""
    papers = {"SAM": "Foret et al. 2021", "Gau": "McAllester 1999", "alo": "McAllester 1999, Q as in Kim et al. 2022"}
    said = []
    for name, of in BOUNDS.items():
        values, test, tau = [row[name] for row in rows], [row[of] for row in rows], found[name]
        holds = sum(bound >= own for bound, own in zip(values, test, strict=True))
        told = (
            f"{np.mean(values):.2f} ({min(values):.2f} to {max(values):.2f}), below 1 in "
            f"{sum(v < 1 for v in values)} of {len(rows)}, at least the test {of} in {holds}; τ with the gap in {of} "
            f"{points((tau.tau, tau.low, tau.high), '', 2)}"
        )
        verdict = "agrees" if holds == len(rows) else "differs"
        said.append(Claim(papers[name[:3]], f"{name}: bounds the test {of}", told, verdict))
    untold = {paper: text.split(": ", 1) for paper, text in NOT_IN_THE_TEXT.items()}
    return said + [Claim(paper, claim, why, "cannot say") for paper, (claim, why) in untold.items()]


def draw(rows: Rows) -> Figure:
    """A row a bound: all networks, and the test errors and losses below."""
    figure = Figure(figsize=(6.8, 6.2), layout="constrained")
    ax, names = figure.subplots(), [*BOUNDS, "test error", "test loss"]
    rules = look(list(dict.fromkeys(row["rule"] for row in rows)))
    for place, name in enumerate(names):
        for side, (rule, (color, marker)) in enumerate(rules.items()):
            own = [row[name.removeprefix("test ")] for row in rows if row["rule"] == rule]
            label = rule.replace("_", " ").upper().replace("FISHER", "Fisher") if place == 0 else None
            ax.plot(own, [place + 0.22 * (side - 1)] * len(own), marker, color=color, mfc="none", ms=3.5, label=label)
    ax.axvline(1.0, color=GREY, linewidth=0.8, linestyle=":", label="1: above, nothing is said of an error")
    ax.set(xscale="log", xlabel="bound, error or loss (nats)", ylim=(len(names) - 0.5, -0.5))
    ax.set_yticks(range(len(names)), names)
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=SMALL)
    return figure


if __name__ == "__main__":
    command(main, Config)
