"""Which part of a small ViT and of a small MLP-Mixer is sharp, trained by SGD and by SAM?

The largest Hessian eigenvalue of the embedding, of each block, of all attention (token mixing) and perceptron (channel
mixing) layers, of the head and of the whole network, all parts of a network in shared passes over its training data.
Published for ImageNet: the shallow blocks are the sharpest, and SAM lowers every part.
Source: Chen, Hsieh and Gong 2022, arXiv:2106.01548, Table 3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis_scripts._shared.frame import command, publish
from analysis_scripts._shared.many_networks import measured, none_failed, training
from landscape.curvature.block_spectra import block_spectra
from landscape.plots.style import legend_above, look, words
from landscape.storage.results import read_json
from landscape.study.network_record import load_run

KINDS: dict[str, dict[str, str]] = {  # the two kinds of layers in a block, by the names of their parameters
    "vit": {"attention": "blocks.*.attention.*", "perceptrons": "blocks.*.perceptron.*"},
    "mixer": {"token mixing": "blocks.*.token*", "channel mixing": "blocks.*.channel*"},
}
EMBEDDING = {"vit": ["patches.*", "class_token", "positions"], "mixer": ["patches.*"]}


@dataclass(frozen=True)
class Config:
    """What is trained and measured; every number of the figure follows from it."""

    models: Mapping[str, Mapping[str, int]] = field(
        default_factory=lambda: {"vit": {"dim": 24, "depth": 4, "heads": 4}, "mixer": {"dim": 24, "depth": 4}}
    )
    rules: Sequence[str] = ("sgd", "sam")
    radii: Mapping[str, float] = field(  # of SAM; with .2 the ViT learns nothing, with .1 the Mixer fits the noise
        default_factory=lambda: {"vit": 0.1, "mixer": 0.2}
    )
    seeds: Sequence[int] = (0, 1, 2)
    label_noise: float = 0.2  # of the training labels; without it both end at a loss, and a Hessian, of nearly zero
    lr: float = 0.1
    epochs: int = 40
    tol: float = 1e-2  # of an eigenvalue, relative
    workers: int = 2
    runs: str = "runs/components"
    folder: str = "figures/components"


def main(config: Config) -> dict[str, Any]:
    """Train and measure."""
    networks = {
        (model, rule, seed): training(
            config,
            f"{model}-{rule}-{seed}",
            rule,
            seed,
            model=model,
            model_settings=dict(config.models[model]),
            rule_settings={} if rule == "sgd" else {"rho": config.radii[model]},
        )
        for model, rule, seed in product(config.models, config.rules, config.seeds)
    }
    kept = none_failed(measured(networks, partial(sharpest, tol=config.tol), config.workers))
    rows = [{"model": model, "rule": rule, "seed": seed, **own} for (model, rule, seed), own in kept.items()]
    return publish(config, "components", {"sentence": sentence(rows), "rows": rows}, partial(draw, rows))


def sharpest(run: Path, *, tol: float) -> dict[str, Any]:
    """The network's losses, and the largest eigenvalue of every part with its residual bound."""
    network = read_json(run / "model.json")
    by = parts(network["model"]["name"], network["model"]["settings"]["depth"])
    spectra = block_spectra(load_run(run), by, tol=tol, trace_matvecs=4)
    return {
        "lambda_max": dict(zip(spectra.names, spectra.values[:, 0].tolist(), strict=True)),
        "residual": dict(zip(spectra.names, spectra.residuals[:, 0].tolist(), strict=True)),
        **{key: network[key] for key in ("train_loss", "train_accuracy", "test_loss", "test_accuracy")},
    }


def parts(model: str, depth: int) -> dict[str, str | list[str]]:
    """Name of each part to the patterns of its parameters' names, from the input to the output."""
    blocks = {f"block {number}": f"blocks.{number - 1}.*" for number in range(1, depth + 1)}
    return {"embedding": EMBEDDING[model], **blocks, "head": "head.*", **KINDS[model], "whole": "*"}


def sentence(rows: Sequence[Mapping[str, Any]]) -> str:
    """What agrees with the paper and what does not, from the numbers."""
    said = []
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        first, *others = {rule: mean_of(own, rule) for rule in dict.fromkeys(row["rule"] for row in own)}.items()
        for rule, means in [first, *others]:
            blocks = {part: value for part, value in means.items() if part.startswith("block ")}
            said.append(f"{model}, {rule}: the sharpest block is {max(blocks, key=lambda part: blocks[part])[6:]}")
        for rule, means in others:
            lower = sum(means[part] < value for part, value in first[1].items())
            ratio = first[1]["whole"] / means["whole"]
            said.append(f"{rule} is below {first[0]} in {lower} of {len(means)} parts, {ratio:.2g} times in the whole")
        right = {rule: [row["train_accuracy"] for row in own if row["rule"] == rule] for rule, _ in [first, *others]}
        fitted = [f"{rule} {100 * float(torch.tensor(each).mean()):.0f} %" for rule, each in right.items()]
        said.append(f"training labels given back: {', '.join(fitted)}")
    return "; ".join(said) + "."


def mean_of(rows: Sequence[Mapping[str, Any]], rule: str) -> dict[str, float]:
    """Geometric mean of lambda_max over the seeds of a rule, part by part."""
    own = [row["lambda_max"] for row in rows if row["rule"] == rule]
    return {
        part: float(torch.tensor([each[part] for each in own], dtype=torch.float64).log().mean().exp())
        for part in own[0]
    }


def draw(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """A panel a model: parts from input to output, one mark a seed, a line through the means."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    figure = Figure(figsize=(3.6 * len(models), 3.8), layout="constrained")
    axes = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
    for ax, model in zip(axes, models, strict=True):
        panel([row for row in rows if row["model"] == model], ax)
        ax.set_title({"vit": "ViT", "mixer": "MLP-Mixer"}[model], pad=18)
        legend_above(ax)
    axes[0].set_ylabel("largest Hessian eigenvalue of the part")
    return figure


def panel(rows: Sequence[Mapping[str, Any]], ax: Axes) -> None:
    """One model."""
    names = list(rows[0]["lambda_max"])
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    for rule, (color, marker) in look(rules).items():
        mean = mean_of(rows, rule)
        label = rule.upper() if len(rule) <= 4 else words(rule)
        ax.plot(range(len(names)), [mean[name] for name in names], color=color, linewidth=1.0, label=label)
        for row in rows:
            if row["rule"] == rule:
                ax.plot(range(len(names)), [row["lambda_max"][name] for name in names], marker, color=color, ms=4)
    ax.set_yscale("log")
    ax.set_xticks(range(len(names)), names, rotation=60, ha="right")


if __name__ == "__main__":
    command(main, Config)
