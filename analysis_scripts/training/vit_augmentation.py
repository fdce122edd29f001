"""Strong augmentation, SAM, and both, on all training images and on a quarter of them: small ViT, MLP-Mixer, ResNet.

Augmentation is RandAugment (two operations) and mixup; the settings are those tuned without it on all images, so that
one training differs from another in what is named alone. A quarter of the images is trained on for twice the epochs,
half the steps. Source: Chen, Hsieh and Gong 2022, arXiv:2106.01548, table 4.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from analysis_scripts._shared.claims import Claim, points
from analysis_scripts._shared.frame import command, legend_over, publish
from analysis_scripts._shared.many_networks import measured
from analysis_scripts._shared.over_seeds import difference, interval, verdict
from analysis_scripts.training.vit_networks import (
    OTHERS,
    PLAIN,
    SAM,
    TITLES,
    Networks,
    Rows,
    accuracies,
    base_rows,
    conditions,
    keys,
    marks,
    rows_of,
    told,
    training,
    tuned,
)

NAMES = {(PLAIN, False): "plain", (SAM, False): "SAM", (PLAIN, True): "AUG", (SAM, True): "SAM + AUG"}
PAPER = "Chen et al. 2022, table 4"


@dataclass(frozen=True)
class Config(Networks):
    """The networks, on parts of the data and with augmentation."""

    shares: tuple[float, ...] = (1.0, 0.25)  # of the training images, chosen by the seed
    augmentation: Mapping[str, Any] = field(
        default_factory=lambda: {"rand_augment": 2, "rand_magnitude": 9.0, "mixup": 0.5}
    )
    folder: str = "figures/vit_augmentation"


def main(config: Config) -> dict[str, Any]:
    """Train and measure."""
    best = tuned(config)
    rows = [{**row, "share": 1.0, "augmented": False} for row in base_rows(config, best)]
    for share, augmented in product(config.shares, (False, True)):
        changes = {**(config.augmentation if augmented else {}), **part(config, share)}
        if not changes:
            continue
        name = f"{'aug-' if augmented else ''}{share:g}"
        networks = {
            key: training(config, best, key, name, **changes)
            for key in keys(config)
            if not augmented or key[0] in OTHERS
        }
        rows += rows_of(measured(networks, accuracies, config.workers), share=share, augmented=augmented)
    content = {"sentence": f"{conditions(config, best)} {sentence(rows, config)}", "rows": rows, "tuned": told(best)}
    return publish(config, "augmentation", content, partial(draw, rows, config), claims=claims(rows, config))


def part(config: Config, share: float) -> dict[str, Any]:
    """Settings of a training on a share of the images: epochs as share^(-1/2), steps as share^(1/2)."""
    return (
        {} if share == 1 else {"validation_share": 1 - share, "epochs": round(config.setting["epochs"] * share**-0.5)}
    )


def right(rows: Rows, model: str, way: tuple[str, bool], share: float, key: str = "points") -> list[float]:
    """Test accuracies in per cent, or another quantity, one a seed."""
    return [
        100 * row["test_accuracy"] if key == "points" else row[key]
        for row in rows
        if (row["model"], row["rule"], row["augmented"], row["share"]) == (model, *way, share)
    ]


def gain(rows: Rows, model: str, share: float, way: tuple[str, bool] = (SAM, False)) -> list[float]:
    """Points above the plain training, seed by seed."""
    pairs = zip(right(rows, model, way, share), right(rows, model, (PLAIN, False), share), strict=True)
    return [own - other for own, other in pairs]


def sentence(rows: Rows, config: Config) -> str:
    """What the networks fit."""
    ends = []
    for model, (way, name) in product(OTHERS, NAMES.items()):
        losses = [np.mean(right(rows, model, way, share, "train_loss")) for share in config.shares]
        ends.append(f"{TITLES[model]}, {name} {', '.join(f'{loss:.2f}' for loss in losses)}")
    shares = ", ".join(f"{100 * share:g} %" for share in config.shares)
    return (
        f"Training loss on images as they are, at {shares}: {'; '.join(ends)}. A mark is a network of one seed, a bar "
        "their mean; AUG: RandAugment and mixup."
    )


def claims(rows: Rows, config: Config) -> list[Claim]:
    """The paper's, by intervals over the seeds."""
    found = []
    least = min(config.shares)
    for model, share in product(OTHERS, config.shares):
        more = difference(right(rows, model, (SAM, False), share), right(rows, model, (PLAIN, True), share))
        found.append(_claim(model, share, "SAM gives more than augmentation", more))
    for model, share in product(OTHERS, config.shares):
        both = right(rows, model, (SAM, True), share)
        ends = [difference(both, right(rows, model, way, share)) for way in ((SAM, False), (PLAIN, True))]
        verdicts = {verdict(own) for own in ends}
        known = "agrees" if verdicts == {"agrees"} else "differs" if "differs" in verdicts else "cannot say"
        claim = f"{TITLES[model]}, {100 * share:g} %: both are above each alone"
        text = f"above SAM {points(ends[0])}, above augmentation {points(ends[1])}"
        found.append(Claim(PAPER, claim, text, known))
    for model in TITLES:
        grown = difference(gain(rows, model, least), gain(rows, model, 1.0))
        found.append(_claim(model, least, f"SAM gains more than on all images ({_gain(rows, model, 1.0)})", grown))
    for model in OTHERS:
        more = difference(gain(rows, model, least), gain(rows, "resnet", least))
        found.append(_claim(model, least, f"SAM gains more than for the ResNet ({_gain(rows, 'resnet', least)})", more))
    return found


def _gain(rows: Rows, model: str, share: float) -> str:
    return points(interval(gain(rows, model, share)))


def _claim(model: str, share: float, claim: str, found: tuple[float, float, float]) -> Claim:
    return Claim(PAPER, f"{TITLES[model]}, {100 * share:g} %: {claim}", points(found), verdict(found))


def draw(rows: Rows, config: Config) -> Figure:
    """A panel a model: test accuracy over the share of the training images."""
    figure = Figure(figsize=(7.6, 5.4), layout="constrained")
    axes = figure.subplots(1, len(TITLES), sharey=True)
    for ax, model in zip(axes, TITLES, strict=True):
        ways = NAMES if model in OTHERS else {way: name for way, name in NAMES.items() if not way[1]}
        columns = [{name: right(rows, model, way, share) for way, name in ways.items()} for share in config.shares]
        marks(ax, columns)
        ax.set_xticks(range(len(config.shares)), [f"{100 * share:g} %" for share in config.shares])
        ax.set(title=TITLES[model], xlabel="of the training images")
    axes[0].set_ylabel("test accuracy (%)")
    legend_over(figure, axes[-1], 4)
    return figure


if __name__ == "__main__":
    command(main, Config)
