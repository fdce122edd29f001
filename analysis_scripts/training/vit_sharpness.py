"""Is a small ViT or MLP-Mixer sharper than a ResNet, and what does SAM change in each?

λmax on the training images, condition number κ of the tangent kernel, accuracy on test images and on corrupted ones;
norms of weights and activations and the share of active neurons by block; where the class token looks. The λmax of the
parts of a network are the script components'. The networks are those of `vit_networks`: equal epochs, as in the paper.
Source: Chen, Hsieh and Gong 2022, arXiv:2106.01548, tables 1 and 3, figure 2 (right) and the attention maps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import landscape as ls
from analysis_scripts._shared.claims import Claim, points, said
from analysis_scripts._shared.frame import command, legend_over, publish
from analysis_scripts._shared.over_seeds import difference, interval, verdict
from analysis_scripts.training.vit_networks import (
    OTHERS,
    PLAIN,
    RULES,
    SAM,
    TITLES,
    Networks,
    Quantity,
    Rows,
    base_rows,
    class_attention,
    conditions,
    gain,
    marks,
    ratio,
    told,
    training,
    tuned,
    values,
)
from landscape.data import digits
from landscape.plots import plot_attention
from landscape.plots.style import SMALL

PAPER = "Chen et al. 2022, "
PANELS = {  # quantity to its label, the factor, whether on a logarithmic axis
    "lambda_max": ("largest Hessian\neigenvalue λmax", 1, True),
    "kappa_start": ("κ of the tangent kernel\nbefore training", 1, True),
    "kappa": ("κ of the tangent kernel\nafter training", 1, True),
    "test_accuracy": ("test accuracy (%)", 100, False),
    "corruption_accuracy": ("accuracy on corrupted\ntest images (%)", 100, False),
    "weight_norm": ("norm of the weights |w|", 1, False),
}


@dataclass(frozen=True)
class Config(Networks):
    """The networks, and what is drawn of them."""

    images: int = 4  # test images whose attention is shown
    folder: str = "figures/vit_sharpness"


def main(config: Config) -> dict[str, Any]:
    """Train and measure."""
    best = tuned(config)
    rows = base_rows(config, best)
    content = {"sentence": f"{conditions(config, best)} {sentence(rows)}", "rows": rows, "tuned": told(best)}
    found = publish(config, "table", content, partial(draw_table, rows), claims=table_claims(rows))
    by_block = {"sentence": f"{conditions(config, best)} A mark is a network of one seed, a bar their mean."}
    publish(config, "blocks", by_block, partial(draw_blocks, rows), claims=block_claims(rows))
    maps = {
        rule: ls.load_checkpoint(training(config, best, ("vit", rule, config.seeds[0])).folder)[0] for rule in RULES
    }
    where = {
        "sentence": "Digits, ViT of the first seed, last block, mean over its heads; a square's area is the attention "
        "of the class token on its patch, on one scale in all."
    }
    shown = partial(draw_attention, maps, config.images)
    publish(config, "attention", where, shown, claims=attention_claims(rows))
    return found


def sentence(rows: Rows) -> str:
    """Where the networks ended."""
    ends = []
    for model, rule in product(TITLES, RULES):
        loss, right = (np.mean(values(rows, model, rule, key)) for key in ("train_loss", "train_accuracy"))
        ends.append(f"{TITLES[model]}, {rule} {loss:.3f}, {100 * right:.1f} %")
    return (
        f"Training loss and accuracy at the end: {'; '.join(ends)}. A mark is a network of one seed, a bar their mean."
    )


def table_claims(rows: Rows) -> list[Claim]:
    """Of table 1."""
    orders = [
        ("lambda_max", "λmax of the {0}, trained plainly, is above the {1}'s", ("vit", "resnet"), ("mixer", "vit")),
        ("kappa_start", "κ before training: {0} above {1}", ("vit", "resnet"), ("mixer", "vit")),
    ]
    found = []
    for key, claim, *pairs in orders:
        for one, other in pairs:
            times, logs = ratio(*(values(rows, model, PLAIN, key) for model in (one, other)))
            found.append(Claim(f"{PAPER}table 1", claim.format(TITLES[one], TITLES[other]), times, verdict(logs)))
    for model in OTHERS:
        times, logs = ratio(*(values(rows, model, rule, "lambda_max") for rule in RULES))
        claim = f"SAM lowers λmax of the {TITLES[model]}"
        found.append(Claim(f"{PAPER}table 1", claim, f"plain over SAM {times}", verdict(logs)))
    gains = {"test_accuracy": "accuracy", "corruption_accuracy": "accuracy on corrupted images"}
    for model, (key, name) in product(OTHERS, gains.items()):
        own, base = ([100 * value for value in gain(rows, each, key)] for each in (model, "resnet"))
        mean, more = interval(own), difference(own, base)
        claim = f"SAM raises the {TITLES[model]}'s {name}"
        found.append(Claim(f"{PAPER}table 1", claim, points(mean), verdict(mean)))
        claim = f"and more than the ResNet's ({points(interval(base))})"
        found.append(Claim(f"{PAPER}table 1", claim, points(more), verdict(more)))
    return found


def block_claims(rows: Rows) -> list[Claim]:
    """Of table 3's norms and figure 2 (right)."""
    longer: dict[str, Quantity] = {"weights |w|": "weight_norm", "activations |aₖ| (mean over blocks)": activation}
    found = []
    for model, (name, get) in product(OTHERS, longer.items()):
        times, logs = ratio(*(values(rows, model, rule, get) for rule in (SAM, PLAIN)))
        found.append(Claim(f"{PAPER}table 3", f"{TITLES[model]}: SAM makes {name} longer", times, verdict(logs)))
    drops = {model: gain(rows, model, lambda row: 100 * row["active"]["1"]) for model in OTHERS}
    paper = f"{PAPER}figure 2 (right)"
    for model, own in drops.items():
        claim = f"SAM lowers the share of active neurons in the {TITLES[model]}'s first block"
        found.append(Claim(paper, claim, points(interval(own)), verdict(interval(own), -1)))
    more = difference(drops["mixer"], drops["vit"])
    found.append(Claim(paper, "and the MLP-Mixer's more than the ViT's", points(more), verdict(more, -1)))
    everywhere = {
        model: values(rows, model, PLAIN, lambda row: 100 * float(np.mean(list(row["active"].values()))))
        for model in OTHERS
    }
    fewer = difference(everywhere["mixer"], everywhere["vit"])
    found.append(Claim(paper, "the MLP-Mixer has more active neurons than the ViT", points(fewer), verdict(fewer)))
    return found


def activation(row: Mapping[str, Any]) -> float:
    """The geometric mean over the blocks of |aₖ|."""
    return float(np.exp(np.mean(np.log(list(row["activation_norm"].values())))))


def attention_claims(rows: Rows) -> list[Claim]:
    """Of the attention maps, whose "more perceptive" is read as: more on what is drawn."""
    own = {rule: values(rows, "vit", rule, "attention_on_ink") for rule in RULES}
    more = difference(own[SAM], own[PLAIN])
    return [
        Claim(
            f"{PAPER}attention maps",
            "SAM's ViT looks more at the object (ink under the class token's attention, over mean ink)",
            f"SAM {said(interval(own[SAM]))}, plain {said(interval(own[PLAIN]))}, difference {points(more, '', 2)}",
            verdict(more),
        )
    ]


def draw_table(rows: Rows) -> Figure:
    """A panel a quantity, the models side by side."""
    figure = Figure(figsize=(7.6, 6.8), layout="constrained")
    axes = figure.subplots(2, 3)
    for ax, (key, (label, scale, logarithmic)) in zip(axes.flat, PANELS.items(), strict=True):
        if logarithmic:
            ax.set_yscale("log")
        shown = RULES if key != "kappa_start" else (PLAIN,)
        marks(ax, [{rule: values(rows, model, rule, key) for rule in shown} for model in TITLES], scale)
        ax.set_xticks(range(len(TITLES)), list(TITLES.values()))
        ax.set_ylabel(label)
    axes[0, 1].set_title("one start for both rules", fontsize=SMALL)
    legend_over(figure, axes[0, 0], 2)
    return figure


def draw_blocks(rows: Rows) -> Figure:
    """Norm of the activations and share of active neurons, block by block."""
    figure = Figure(figsize=(6.4, 6.0), layout="constrained")
    axes = figure.subplots(2, 2, sharex="col", sharey="row")
    for row, (key, label, scale) in enumerate(
        (("activation_norm", "norm |aₖ| of the\nblock's activation", 1), ("active", "active neurons (%)", 100))
    ):
        for ax, model in zip(axes[row], OTHERS, strict=True):
            blocks(ax, rows, model, key, scale)
        axes[row, 0].set_ylabel(label)
    for column, model in enumerate(OTHERS):
        axes[0, column].set_title(TITLES[model])
    legend_over(figure, axes[0, 0], 2)
    return figure


def blocks(ax: Axes, rows: Rows, model: str, key: str, scale: float) -> None:
    """One quantity of one model over its blocks."""
    names = list(next(row[key] for row in rows if row["model"] == model))
    per_rule = {rule: values(rows, model, rule, lambda row: row[key]) for rule in RULES}
    marks(ax, [{rule: [each[name] for each in own] for rule, own in per_rule.items()} for name in names], scale)
    ax.set_xticks(range(len(names)), [f"block {name}" for name in names])


def draw_attention(networks: Mapping[str, Any], images: int) -> Figure:
    """The first test images of the first classes, a row a rule."""
    data = digits()
    chosen = [int((data.test_targets == label).int().argmax()) for label in range(images)]
    pictures = data.test_inputs[chosen]
    maps = {rule: class_attention(model, pictures) for rule, model in networks.items()}
    largest = max(float(own.max()) for own in maps.values())
    figure = Figure(figsize=(1.4 * images + 0.4, 3.6), layout="constrained")
    axes = figure.subplots(len(maps), images, squeeze=False)
    for row, (rule, own) in enumerate(maps.items()):
        for ax, attention, picture in zip(axes[row], own, pictures, strict=True):
            plot_attention(attention, picture, ax, largest=largest)
        axes[row, 0].set_ylabel(rule)
    for label, ax in enumerate(axes[0]):
        ax.set_title(f"a test image of a {label}", fontsize=SMALL)
    return figure


if __name__ == "__main__":
    command(main, Config)
