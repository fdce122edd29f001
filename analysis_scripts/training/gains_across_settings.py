"""Does SAM help everywhere? Its error beside SGD's over data sets, networks, augmentations and base optimisers.

SGD's learning rate is tuned in each setting; SAM keeps all of SGD's settings, with the radius .05 everywhere or with a
radius that is tuned too. Both are tuned on a fifth of the training data, by the smallest mean error of two seeds.
Left: test error of both rules, a mark a setting. Right: what SAM takes from the error, 95 % intervals over seeds.
The claims: SAM lowers the error over many data sets, networks and augmentations (Foret et al. 2021, arXiv:2010.01412,
figure 1, left); the radius .05 does so without any tuning (table 10).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.figure import Figure

import landscape as ls
from analysis_scripts._shared.claims import Claim, points
from analysis_scripts._shared.frame import command, legend_over, publish
from analysis_scripts._shared.many_networks import measured, none_failed, slug, training
from analysis_scripts._shared.over_seeds import difference, interval, verdict
from analysis_scripts._shared.random_search import error
from landscape.plots.style import BLUE, RED, SMALL
from landscape.training import read_log

MLP: dict[str, Any] = {"model": "mlp", "model_settings": {"hidden": [64, 64]}}
NORMED: dict[str, Any] = {"model": "mlp", "model_settings": {"hidden": [64, 64], "norm": "batch"}}


def _table(name: str, columns: int, classes: int) -> dict[str, Any]:
    model = {"in_features": columns, "hidden": [64, 64], "classes": classes}
    where = {"dataset": "analysis_scripts._shared.tables:table", "data_path": name}
    return {**where, "model": "mlp", "model_settings": model, "batch_size": 32}


SETTINGS: dict[str, dict[str, Any]] = {
    "digits, perceptron": MLP,
    "digits, perceptron, batch norm": NORMED,
    "digits, perceptron, AdamW": {**MLP, "base": "adamw"},
    "digits, perceptron, mixup": {**MLP, "mixup": 1.0},
    "digits, perceptron, cutout": {**MLP, "cutout": 3},
    "digits, perceptron, 40 % wrong labels": {**MLP, "label_noise": 0.4},
    "digits, ResNet, batch norm": {"model": "resnet", "model_settings": {"width": 4, "norm": "batch"}},
    "breast cancer": _table("breast_cancer", 30, 2),
    "wine": _table("wine", 13, 3),
    "iris": _table("iris", 4, 3),
    "sign of x₁x₂ among noise": _table("parity", 10, 2),
}
CONSTANT = 0.05
LOOKED = 2  # times, at the claims: first in points, with a network that diverged, and fewer learning rates
KINDS = {"constant": (f"SAM, ρ = {CONSTANT:g} everywhere", RED, "s"), "tuned": ("SAM, ρ tuned", BLUE, "o")}
Errors = Mapping[str, Mapping[str, Sequence[float]]]  # setting, "sgd" | "constant" | "tuned", seed


@dataclass(frozen=True)
class Config:
    """What is trained."""

    settings: tuple[str, ...] = tuple(SETTINGS)
    lrs: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
    radii: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    epochs: int = 20
    tuning_seeds: tuple[int, ...] = (100, 101)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    workers: int = 2
    folder: str = "figures/gains_across_settings"
    runs: str = "runs/gains_across_settings"


def main(config: Config) -> dict[str, Any]:
    """Tune, train, compare."""
    lrs = tuned(config, "lr", {(name, lr): (lr, 0.0) for name in config.settings for lr in config.lrs})
    radii = tuned(config, "rho", {(name, rho): (lrs[name], rho) for name in config.settings for rho in config.radii})
    runs = {
        (name, kind, seed): run_of(config, name, (lrs[name], rho), f"{kind}-{seed}", seed)
        for name in config.settings
        for kind, rho in {"sgd": 0.0, "constant": CONSTANT, "tuned": radii[name]}.items()
        for seed in config.seeds
    }
    found = none_failed(measured(runs, error, config.workers))
    errors = {
        name: {kind: [found[name, kind, seed]["error"] for seed in config.seeds] for kind in ("sgd", *KINDS)}
        for name in config.settings
    }
    edges = [*at_edge(lrs, config.lrs, "lr"), *at_edge(radii, [0.0, *config.radii], "ρ")]  # at ρ = 0 SAM is SGD
    content = {"sentence": sentence(config, edges), "errors": errors, "lr": lrs, "rho": radii}
    return publish(config, "gains", content, partial(draw, errors), claims=claims(errors))


def run_of(
    config: Config, name: str, point: tuple[float, float], last: str, seed: int, **changes: Any
) -> ls.TrainConfig:
    """The run LAST in a setting, at a learning rate and a radius; SGD where the radius is 0."""
    lr, rho = point
    if SETTINGS[name].get("base") == "adamw":
        lr /= 30  # Adam's rates are smaller
    rule, of_rule = ("sam", {"rho": rho}) if rho else ("sgd", {})
    own = {**SETTINGS[name], "lr": lr, "rule_settings": of_rule, "epochs": config.epochs, **changes}
    return training(config, f"{slug(name)}/{last}", rule, seed, **own)


def tuned(config: Config, what: str, tries: Mapping[tuple[str, float], tuple[float, float]]) -> dict[str, float]:
    """Setting to the value with the smallest mean error on held-out data; of equals, with the smallest loss.

    Args:
        what: "lr" or "rho", part of the runs' names.
        tries: (setting, value) to learning rate and radius.
    """
    runs = {
        (name, value, seed): run_of(config, name, point, f"{what}-{value:g}-{seed}", seed, validation_share=0.2)
        for (name, value), point in tries.items()
        for seed in config.tuning_seeds
    }
    found = measured(runs, held_out, config.workers)
    judged = {
        (name, value): [found[name, value, seed].get("judged", [1.0, inf]) for seed in config.tuning_seeds]
        for name, value in tries
    }
    order = sorted(judged, key=lambda own: [mean(end) for end in zip(*judged[own], strict=True)], reverse=True)
    return dict(order)  # of each setting the last, its best, stays


def held_out(folder: Path) -> dict[str, Any]:
    """Error and loss after the last epoch, on what was held out."""
    last = read_log(folder)[-1]
    return {"judged": [1 - last["validation_accuracy"], last["validation_loss"]]}


def at_edge(best: Mapping[str, float], tried: Sequence[float], what: str) -> list[str]:
    """Settings whose best value is the smallest or the largest of those tried: a further one might be better."""
    return [f"{what} = {best[name]:g} of {name}" for name in SETTINGS if best.get(name) in (min(tried), max(tried))]


def sentence(config: Config, edges: Sequence[str]) -> str:
    """Conditions."""
    return (
        f"{len(config.settings)} settings, {config.epochs} epochs, {len(config.seeds)} seeds; lr of SGD from "
        f"{config.lrs} (AdamW a thirtieth), the tuned ρ from {config.radii}, by two seeds on a fifth of the training "
        f"data; tables: two thirds of the rows train. At an edge of those tried: {', '.join(edges) or 'none'}."
    )


def gains(errors: Errors, kind: str) -> dict[str, tuple[float, float, float]]:
    """Setting to the points of error by which SAM is above SGD, seed by seed."""
    apart = {name: difference(own[kind], own["sgd"]) for name, own in errors.items()}
    return {name: tuple(100 * end for end in own) for name, own in apart.items()}  # type: ignore[misc]


def claims(errors: Errors) -> list[Claim]:
    """Over settings, as shares of SGD's error; how many settings stand for it by themselves."""
    texts = {
        "tuned": ("Foret et al. 2021, figure 1 (left)", "SAM lowers the error over data sets, networks, augmentations"),
        "constant": ("Foret et al. 2021, table 10", f"ρ = {CONSTANT:g}, not tuned, lowers the error"),
    }
    found = []
    for kind, (paper, claim) in texts.items():
        each = gains(errors, kind).values()
        shares = [100 * (1 - mean(own[kind]) / mean(own["sgd"])) for own in errors.values() if any(own["sgd"])]
        over = interval(shares, 0.05 / LOOKED)
        lower, higher = (sum(own[2] < 0 for own in each), sum(own[1] > 0 for own in each))
        text = f"by {points(over, ' %')} of SGD's, over settings ({LOOKED} looks); "
        text += f"by seeds lower in {lower}, higher in {higher} of {len(each)}"
        found.append(Claim(paper, claim, text, verdict(over)))
    return found


def draw(errors: Errors) -> Figure:
    """SAM's error over SGD's, and what SAM changes in each setting."""
    figure = Figure(figsize=(7.4, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows = range(len(errors))
    for shift, (kind, (label, color, marker)) in zip((-0.15, 0.15), KINDS.items(), strict=True):
        x, y = ([100 * mean(own[key]) for own in errors.values()] for key in ("sgd", kind))
        look: dict[str, Any] = {"marker": marker, "color": color, "ms": 4.5, "ls": "", "label": label}
        left.plot(x, y, mfc=color if kind == "tuned" else "none", **look)
        each = gains(errors, kind).values()
        places = [row + shift for row in rows]
        right.hlines(places, [own[1] for own in each], [own[2] for own in each], color=color, linewidth=1.1)
        right.plot([own[0] for own in each], places, mfc=color if kind == "tuned" else "white", **look)
    ends = [0.0, 1.05 * max(100 * mean(kind) for own in errors.values() for kind in own.values())]
    left.plot(ends, ends, color="0.6", linewidth=0.8, zorder=0)
    left.annotate("equal errors", (0.55 * ends[1], 0.55 * ends[1]), xytext=(4, -9), textcoords="offset points")
    left.set(xlabel="test error of SGD (%)", ylabel="test error of SAM (%)", xlim=ends, ylim=ends, aspect="equal")
    right.axvline(0, color="0.6", linewidth=0.8, zorder=0)
    right.set_yticks(list(rows), list(errors), fontsize=SMALL)
    right.invert_yaxis()
    right.set_xlabel("SAM's test error − SGD's (points)")
    legend_over(figure, left, 2)
    return figure


if __name__ == "__main__":
    command(main, Config)
