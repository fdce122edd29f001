"""Which part of a small ViT and of a small MLP-Mixer is sharp, trained by AdamW and by SAM around it?

The largest Hessian eigenvalue of the embedding, of each block, of all attention (token mixing) and perceptron (channel
mixing) layers, of the head and of the whole network, all parts of a network in shared passes over its training data.
All networks train until the same training loss, or as long as all may; learning rate, weight decay and radius of each
row are tuned by the search that all comparisons share. The claims, for ImageNet: the shallow blocks are the sharpest,
and SAM lowers every part. Source: Chen, Hsieh and Gong 2022, arXiv:2106.01548, Table 3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis_scripts._shared.claims import Claim
from analysis_scripts._shared.described import KINDS as TITLES
from analysis_scripts._shared.described import each_sized
from analysis_scripts._shared.frame import command, publish
from analysis_scripts._shared.many_networks import measured, none_failed
from analysis_scripts._shared.over_seeds import difference, verdict
from analysis_scripts._shared.random_search import Search, Tuned
from analysis_scripts._shared.variants import Variant, network, tune_at
from landscape.curvature.block_spectra import block_spectra
from landscape.plots.style import legend_above, look
from landscape.storage.results import read_json
from landscape.study.network_record import load_run

KINDS: dict[str, dict[str, str]] = {  # the two kinds of layers in a block, by the names of their parameters
    "vit": {"attention": "blocks.*.attention.*", "perceptrons": "blocks.*.perceptron.*"},
    "mixer": {"token mixing": "blocks.*.token*", "channel mixing": "blocks.*.channel*"},
}
EMBEDDING = {"vit": ["patches.*", "class_token", "positions"], "mixer": ["patches.*"]}
ENDS: Any = {"lr": (3e-4, 3e-2), "weight_decay": (1e-3, 1.0), "others": lambda _at: {"base": "adamw"}}
RULES: dict[str, Variant] = {
    "AdamW": Variant("sgd", 1, None, lambda _at: {}, **ENDS),
    "SAM": Variant("sam", 2, (0.02, 1.0), **ENDS),
}
Rows = Sequence[Mapping[str, Any]]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Config:
    """What is trained and measured; every number of the figure follows from it."""

    models: Mapping[str, Mapping[str, int]] = field(
        default_factory=lambda: {"vit": {"dim": 16, "depth": 4, "heads": 2}, "mixer": {"dim": 16, "depth": 4}}
    )
    rules: Sequence[str] = tuple(RULES)
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    setting: dict[str, Any] = field(
        default_factory=lambda: {
            "epochs": 60,
            "batch_size": 32,  # of 128 a ViT does not reach the loss
            "stop_at_loss": 0.05,
            "schedule": "constant",
            "label_noise": 0.0,
        }
    )
    search: Search = field(default_factory=lambda: Search(points=6, rounds=2, finalists=2, seeds=(100, 101)))
    tol: float = 1e-2  # of an eigenvalue, relative
    workers: int = 2
    runs: str = "runs/components"
    folder: str = "figures/components"
    tuning: str = "runs/tuning_components"


def main(config: Config) -> dict[str, Any]:
    """Train and measure."""
    tuned: dict[tuple[str, str], Tuned] = {}
    for model, settings in config.models.items():
        own = {**config.setting, "model": model, "model_settings": dict(settings)}
        here = replace(config, setting=own, tuning=f"{config.tuning}/{model}")
        found = tune_at(here, {rule: RULES[rule] for rule in config.rules})
        tuned |= {(model, rule): best for rule, best in found.items()}
    networks = {
        (model, rule, seed): network(
            config,
            f"{model}-{rule}-{seed}",
            RULES[rule],
            tuned[model, rule].point,
            seed,
            model=model,
            model_settings=dict(config.models[model]),
        )
        for model, rule, seed in product(config.models, config.rules, config.seeds)
    }
    kept = none_failed(measured(networks, partial(sharpest, tol=config.tol), config.workers))
    rows = [{"model": model, "rule": rule, "seed": seed, **own} for (model, rule, seed), own in kept.items()]
    loss, epochs = config.setting["stop_at_loss"], config.setting["epochs"]
    asked = f"Digits; trained until a training loss of {loss:g} or for {epochs} epochs, {len(config.seeds)} seeds."
    content: dict[str, Any] = {"sentence": f"{each_sized(config.models)}. {asked} {sentence(rows)}", "rows": rows}
    content["tuned"] = {" ".join(key): {"point": own.point, "at_edge": own.edges} for key, own in tuned.items()}
    return publish(config, "components", content, partial(draw, rows), claims=claims(rows))


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


def sentence(rows: Rows) -> str:
    """At which losses the networks were compared."""
    said = []
    for model, rule in dict.fromkeys((row["model"], row["rule"]) for row in rows):
        own = [row for row in rows if (row["model"], row["rule"]) == (model, rule)]
        loss, right = (np.mean([row[key] for row in own]) for key in ("train_loss", "test_accuracy"))
        said.append(f"{TITLES[model]}, {rule} {loss:.3f}, {100 * right:.1f} %")
    return f"Final training loss, test accuracy: {'; '.join(said)}. A mark is a network, a line their geometric mean."


def claims(rows: Rows) -> list[Claim]:
    """Which block is the sharpest, and which parts SAM lowers, by intervals over the seeds of log λmax."""
    found = []
    for model in dict.fromkeys(row["model"] for row in rows):
        logs = {rule: logarithms(rows, model, rule) for rule in dict.fromkeys(row["rule"] for row in rows)}
        for rule, own in logs.items():
            found.append(_shallow(model, rule, own))
        first, *others = logs
        found += [_lower(model, first, rule, logs[first], logs[rule]) for rule in others]
    return found


def logarithms(rows: Rows, model: str, rule: str) -> dict[str, Array]:
    """log λmax of each part, one value a seed."""
    own = [row["lambda_max"] for row in rows if (row["model"], row["rule"]) == (model, rule)]
    return {part: np.log([each[part] for each in own]) for part in own[0]}


def _shallow(model: str, rule: str, logs: Mapping[str, Array]) -> Claim:
    blocks = [own for part, own in logs.items() if part.startswith("block ")]
    half = len(blocks) // 2
    found = difference(list(np.mean(blocks[:half], 0)), list(np.mean(blocks[half:], 0)))
    return Claim(
        "Chen et al. 2022, table 3",
        f"{TITLES[model]}, {rule}: the shallow blocks are the sharpest",
        f"first half of the blocks over the second {_times(found)}",
        verdict(found),
    )


def _lower(model: str, first: str, rule: str, plain: Mapping[str, Array], own: Mapping[str, Array]) -> Claim:
    outside = 0.05 / len(plain)  # for all parts at once
    ends = {part: difference(list(plain[part]), list(own[part]), outside) for part in plain}
    lower, higher = sum(end[1] > 0 for end in ends.values()), sum(end[2] < 0 for end in ends.values())
    return Claim(
        "Chen et al. 2022, table 3",
        f"{TITLES[model]}: {rule} lowers λmax of every part",
        f"lower beyond the interval in {lower} of {len(ends)} parts, higher in {higher}; whole network: {first} over "
        f"{rule} {_times(ends['whole'])}",
        "agrees" if lower == len(ends) else "differs" if higher else "cannot say",
    )


def _times(found: Sequence[float]) -> str:
    mean, low, high = np.exp(found)
    return f"{mean:.2g} times [{low:.2g}, {high:.2g}]"


def draw(rows: Rows) -> Figure:
    """A panel a model: parts from input to output, one mark a seed, a line through the means."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    figure = Figure(figsize=(3.6 * len(models), 3.8), layout="constrained")
    axes = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
    for ax, model in zip(axes, models, strict=True):
        panel(rows, model, ax)
        ax.set_title(TITLES[model], pad=18)
        legend_above(ax)
    axes[0].set_ylabel("largest Hessian eigenvalue of the part")
    return figure


def panel(rows: Rows, model: str, ax: Axes) -> None:
    """One model; the rules side by side."""
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    for place, (rule, (color, marker)) in enumerate(look(rules).items()):
        logs = logarithms(rows, model, rule)
        x = np.arange(len(logs)) + 0.16 * (place - (len(rules) - 1) / 2)
        ax.plot(x, np.exp([own.mean() for own in logs.values()]), color=color, linewidth=1.0)
        for at, own in zip(x, logs.values(), strict=True):
            ax.plot([at] * len(own), np.exp(own), marker, color=color, ms=3.5, mfc="none")
        ax.plot([], [], marker, linestyle="-", color=color, ms=3.5, mfc="none", label=rule)
    ax.set_yscale("log")
    ax.set_xticks(range(len(logs)), list(logs), rotation=60, ha="right")


if __name__ == "__main__":
    command(main, Config)
