"""Can the network fit labels without meaning, and is it the regularisation that keeps true ones from being memorised?

A perceptron on digits with true and with fully random labels (label_noise .9 of ten classes), without regularisation,
with weight decay, with random crops, and with both. Accuracy on the training images (given labels) and on the test
images. The claims: random labels are fitted as well as true ones, with regularisation too; networks generalise without
it (Zhang et al. 2017, arXiv:1611.03530, sections 2 and 3, tables 1 and 4).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from math import inf
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from analysis_scripts._shared.claims import Claim, points, said
from analysis_scripts._shared.frame import command, legend_over, publish
from analysis_scripts._shared.many_networks import measured, none_failed, slug, training
from analysis_scripts._shared.over_seeds import difference, interval, lies_in
from landscape.plots.style import BLUE, RED
from landscape.storage.results import read_json

LABELS = {"true": (0.0, BLUE, "s"), "random": (0.9, RED, "o")}
KINDS: dict[str, dict[str, Any]] = {
    "none": {},
    "weight decay": {"weight_decay": 5e-4},
    "crops": {"crop": 1},
    "both": {"weight_decay": 5e-4, "crop": 1},
}
PARTS = {"train_accuracy": "training accuracy, given labels (%)", "test_accuracy": "test accuracy (%)"}
FITTED, MOST = (
    99.0,
    5.0,
)  # % of training labels that count as "fits"; points that regularisation "hardly matters" within
PAPER = "Zhang et al. 2017, tables 1 and 4"
Runs = Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]  # labels, regularisation, part, seed


@dataclass(frozen=True)
class Config:
    """What is trained."""

    kinds: tuple[str, ...] = tuple(KINDS)
    seeds: tuple[int, ...] = (0, 1, 2)
    epochs: int = 200
    lr: float = 0.05
    model_settings: Mapping[str, Any] = field(default_factory=lambda: {"hidden": (128, 128)})
    workers: int = 2
    folder: str = "figures/memorization"
    runs: str = "runs/memorization"


def main(config: Config) -> dict[str, Any]:
    """Train and compare."""
    networks = {
        (labels, kind, seed): training(
            config,
            f"{labels}-{slug(kind)}-{seed}",
            "sgd",
            seed,
            **{"model": "mlp", "label_noise": share, "weight_decay": 0.0, **KINDS[kind]},
        )
        for (labels, (share, *_)), kind, seed in product(LABELS.items(), config.kinds, config.seeds)
    }
    found = none_failed(measured(networks, accuracies, config.workers))
    runs = {
        labels: {
            kind: {part: [100 * found[labels, kind, seed][part] for seed in config.seeds] for part in PARTS}
            for kind in config.kinds
        }
        for labels in LABELS
    }
    content = {"sentence": sentence(config), "accuracy": runs}
    return publish(config, "memorization", content, partial(draw, runs), claims=claims(runs, config.epochs))


def accuracies(folder: Path) -> dict[str, Any]:
    """On the training images with the labels given, and on the test images."""
    kept = read_json(folder / "model.json")
    return {part: kept[part] for part in PARTS}


def sentence(config: Config) -> str:
    """Conditions."""
    return (
        f"Perceptron with hidden layers {tuple(config.model_settings['hidden'])} on digits, {config.epochs} epochs, lr "
        f"{config.lr:g} along half a cosine, {len(config.seeds)} seeds; weight decay 5e-4, crops by up to 1 pixel."
    )


def claims(runs: Runs, epochs: int) -> list[Claim]:
    """Of each regularisation."""
    found = []
    for kind, own in runs["random"].items():
        fits, guessed = (interval(own[part]) for part in PARTS)
        text = f"after {epochs} epochs {said(fits, 1)} % of the training and {said(guessed, 1)} % of the test labels"
        claim = f"random labels are fitted ({FITTED:g} %: our mark), {kind}"
        found.append(Claim(PAPER, claim, text, lies_in(fits, FITTED, inf)))
    plain = runs["true"]["none"]["test_accuracy"]
    for kind, own in runs["true"].items():
        if kind not in ("none", "both"):
            gain = difference(own["test_accuracy"], plain)
            claim = f"true labels: without {kind} about as many test labels (within {MOST:g} points)"
            text = f"{points(gain)} of test accuracy, from {interval(plain)[0]:.1f} % without"
            found.append(Claim(PAPER, claim, text, lies_in(gain, -MOST, MOST)))
    return found


def draw(runs: Runs) -> Figure:
    """A panel a part, a row a regularisation, means with 95 % intervals."""
    figure = Figure(figsize=(6.8, 4.4), layout="constrained")
    axes = figure.subplots(1, len(PARTS), sharey=True)
    for ax, (part, label) in zip(axes, PARTS.items(), strict=True):
        for shift, (labels, (_, color, marker)) in zip((-0.12, 0.12), LABELS.items(), strict=True):
            ends = [interval(own[part]) for own in runs[labels].values()]
            places = [row + shift for row in range(len(ends))]
            ax.hlines(places, [own[1] for own in ends], [own[2] for own in ends], color=color, linewidth=1.2)
            look: dict[str, Any] = {"color": color, "ms": 4.5, "label": f"{labels} labels"}
            ax.plot([own[0] for own in ends], places, marker, **look)
        ax.axvline(10, color="0.5", linewidth=0.8, linestyle=":", label="chance")
        ax.set(xlabel=label, xlim=(0, 103))
    axes[0].set_yticks(range(len(runs["true"])), list(runs["true"]))
    axes[0].invert_yaxis()
    axes[0].set_ylabel("regularisation")
    legend_over(figure, axes[0], 3)
    return figure


if __name__ == "__main__":
    command(main, Config)
