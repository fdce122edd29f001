"""Adversarial training with and without SAM: accuracy of a small ResNet, ViT and MLP-Mixer on clean images and under
attack.

A step descends the loss at x + size sign(∂L/∂x); with SAM at w + e too, both from one gradient. Test accuracy, clean,
corrupted, under FGSM and under PGD with ten steps, all of one size; beside them the networks that are not trained so.
All train as long; the settings of each are tuned by the same search, judged by clean images.
Source: Chen, Hsieh and Gong 2022, arXiv:2106.01548, table 5.
"""

from dataclasses import dataclass
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
    RULES,
    TITLES,
    Networks,
    Rows,
    base_rows,
    conditions,
    gain,
    keys,
    marks,
    rows_of,
    told,
    training,
    tuned,
    values,
    withstood,
)
from landscape.data import digits

PANELS = {
    "test_accuracy": "clean",
    "fgsm_accuracy": "FGSM",
    "pgd10_accuracy": "PGD-10",
    "corruption_accuracy": "corrupted",
}
PAPER = "Chen et al. 2022, table 5"


@dataclass(frozen=True)
class Config(Networks):
    """The networks; `size` is that of the training's images too."""

    folder: str = "figures/vit_adversarial"


def main(config: Config) -> dict[str, Any]:
    """Train and measure."""
    way: Any = {"name": "adversarial", **objective(config)}
    best = tuned(config, **way)
    networks = {key: training(config, best, key, **way) for key in keys(config)}
    rows = rows_of(measured(networks, partial(withstood, size=config.size), config.workers))
    usual = base_rows(config, tuned(config))
    content = {"sentence": f"{conditions(config, best)} {sentence(rows, config)}", "rows": rows, "tuned": told(best)}
    return publish(config, "adversarial", content, partial(draw, rows, usual), claims=claims(rows, usual))


def objective(config: Config) -> dict[str, Any]:
    """Settings of the training, whose size is in units of the inputs."""
    black, white = digits().pixel_span
    return {"objective": "adversarial", "objective_settings": {"size": config.size * float(white - black)}}


def sentence(rows: Rows, config: Config) -> str:
    """At which losses, and how strong the attacks are."""
    ends = [
        f"{TITLES[model]}, {rule} {np.mean(values(rows, model, rule, 'train_loss')):.3f}"
        for model, rule in product(TITLES, RULES)
    ]
    return (
        f"Attacks and training: {255 * config.size:.0f}/255 of the way from black to white. Training loss on clean "
        f"images: {'; '.join(ends)}. A mark is a network of one seed, a bar their mean."
    )


def claims(rows: Rows, usual: Rows) -> list[Claim]:
    """What SAM adds to adversarial training, and to whom more."""
    found = []
    for model in TITLES:
        pairs = zip(
            values(rows, model, PLAIN, "pgd10_accuracy"), values(usual, model, PLAIN, "pgd10_accuracy"), strict=True
        )
        more = interval([100 * (own - other) for own, other in pairs])
        claim = f"{TITLES[model]}: adversarial training raises accuracy under PGD-10"
        found.append(Claim(PAPER, claim, points(more), verdict(more)))
    for model, key in product(OTHERS, (key for key in PANELS if key != "fgsm_accuracy")):
        own, base = ([100 * value for value in gain(rows, each, key)] for each in (model, "resnet"))
        mean, more = interval(own), difference(own, base)
        what = f"{PANELS[key]} accuracy of the adversarially trained {TITLES[model]}"
        found.append(Claim(PAPER, f"SAM raises {what}", points(mean), verdict(mean)))
        if key == "pgd10_accuracy":
            claim = f"and more than the ResNet's ({points(interval(base))})"
            found.append(Claim(PAPER, claim, points(more), verdict(more)))
    lost = interval([100 * value for value in gain(rows, "resnet", "test_accuracy")])
    found.append(Claim(PAPER, "SAM costs the ResNet clean accuracy", points(lost), verdict(lost, -1)))
    return found


def draw(rows: Rows, usual: Rows) -> Figure:
    """A panel a kind of test images, the models side by side."""
    figure = Figure(figsize=(7.6, 7.6), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True)
    for ax, (key, title) in zip(axes.flat, PANELS.items(), strict=True):
        columns = [
            {
                f"{rule}{name}": values(own, model, rule, key)
                for name, own in (("", usual), (" + adversarial", rows))
                for rule in RULES
            }
            for model in TITLES
        ]
        marks(ax, columns, 100)
        ax.set_xticks(range(len(TITLES)), list(TITLES.values()))
        ax.set_title(f"{title} test images")
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy (%)")
    legend_over(figure, axes[0, 0], 4)
    return figure


if __name__ == "__main__":
    command(main, Config)
