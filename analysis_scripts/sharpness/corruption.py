"""How networks of four rules bear corrupted weights: along the gradient (adversarial) and in random directions.

Loss and accuracy at w + e over |e|, on training images (with the wrong labels that were trained on) and clean test
images. Adversarial: e along the training loss's gradient, one line a network. Random: e uniform on the sphere, several
draws a network. Bands hold 90 % of the lines of all seeds and draws. Learning rate, weight decay and radius of each
rule are tuned by one random search. The claim: against perturbations along the gradient Fisher SAM's networks hold out
longer than SAM's. Source: Kim et al. 2022, arXiv:2206.04920, figure 4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch.nn import functional as F

import landscape as ls
from analysis_scripts._shared.claims import Claim, points
from analysis_scripts._shared.frame import command, publish
from analysis_scripts._shared.many_networks import SETTING, data_of, measured, slug
from analysis_scripts._shared.over_seeds import difference, verdict
from analysis_scripts._shared.random_search import Search
from analysis_scripts._shared.variants import VARIANTS, network, tune_at
from landscape.plots.style import SMALL, line_style, look
from landscape.storage.results import SliceBand
from landscape.vectors import unit

KINDS = ("adversarial", "random")
Bands = dict[str, dict[str, SliceBand]]  # rule, kind


@dataclass(frozen=True)
class Config:
    """What is trained and corrupted."""

    rules: tuple[str, ...] = ("SGD", "SAM", "ASAM", "Fisher SAM")
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    draws: int = 8
    points: int = 31
    adversarial: float = 3.0  # largest |e|
    random: float = 24.0
    setting: dict[str, Any] = field(default_factory=lambda: {**SETTING, "label_noise": 0.4})
    search: Search = field(default_factory=Search)
    workers: int = 2
    folder: str = "figures/corruption"
    runs: str = "runs/corruption"
    tuning: str = "runs/tuning"


def main(config: Config) -> Bands:
    """Train and corrupt."""
    reach = {kind: getattr(config, kind) for kind in KINDS}
    cut = partial(lines, draws=config.draws, points=config.points, reach=reach)
    tuned = tune_at(config, {rule: VARIANTS[rule] for rule in config.rules})
    networks = {
        (rule, seed): network(config, f"{rule}-{seed}", VARIANTS[rule], tuned[rule].point, seed)
        for rule, seed in product(config.rules, config.seeds)
    }
    found = measured(networks, cut, config.workers)
    bands: Bands = {rule: {} for rule in config.rules}
    for rule, kind in product(config.rules, KINDS):
        own = [SliceBand.load(Path(networks[rule, seed].folder) / kind) for seed in config.seeds]
        loss, accuracy = (
            {split: torch.cat([getattr(band, what)[split] for band in own]) for split in own[0].loss}
            for what in ("loss", "accuracy")
        )
        bands[rule][kind] = SliceBand(own[0].x, loss, accuracy)
        bands[rule][kind].save(Path(config.folder) / f"{slug(rule)}_{kind}")
    norms = {rule: [found[rule, seed]["norm"] for seed in config.seeds] for rule in config.rules}
    content = {"sentence": sentence(bands, norms), "weight_norms": norms}
    content["tuned"] = {rule: {"point": own.point, "at_edge": own.edges} for rule, own in tuned.items()}
    publish(config, "corruption", content, partial(draw, bands), claims=claims(bands))
    return bands


def lines(folder: Path, draws: int, points: int, reach: Mapping[str, float]) -> dict[str, Any]:
    """Slices of one network into its folder, along its gradient and along random unit vectors."""
    model, metadata = ls.load_checkpoint(folder)
    data = data_of(metadata["config"])
    splits = {"train": [(data.train_inputs, data.train_targets)], "test": [(data.test_inputs, data.test_targets)]}
    problem = ls.Problem(model, F.cross_entropy, splits["train"])
    source = torch.Generator().manual_seed(metadata["config"]["seed"])
    directions = {
        "adversarial": [unit(problem.gradient())],
        "random": [unit(torch.randn(problem.size, generator=source)) for _ in range(draws)],
    }
    for kind, own in directions.items():
        ls.slice_1d(problem, own, (0.0, reach[kind], points), splits, progress=False).save(folder / kind)
    return {"norm": float(problem.vector().norm()), "gradient": float(problem.gradient().norm())}


def endured(band: SliceBand, split: str = "test", drop: float = 0.1) -> float:
    """|e| at which the mean accuracy over all lines has fallen by `drop`, between points by a straight line; the
    largest |e| if it never has."""
    fallen = band.accuracy[split].double().mean(0)
    below = fallen <= fallen[0] - drop
    if not below.any():
        return float(band.x[-1])
    i = int(below.int().argmax())
    share = (fallen[i - 1] - (fallen[0] - drop)) / (fallen[i - 1] - fallen[i])
    return float(band.x[i - 1] + share * (band.x[i] - band.x[i - 1]))


def lines_of(band: SliceBand) -> list[SliceBand]:
    """Its lines, each a band of its own: adversarial, one a seed."""
    count = len(next(iter(band.loss.values())))
    loss, accuracy = (
        [{k: v[i : i + 1] for k, v in own.items()} for i in range(count)] for own in (band.loss, band.accuracy)
    )
    return [SliceBand(band.x, *own) for own in zip(loss, accuracy, strict=True)]


def sentence(bands: Bands, norms: Mapping[str, Sequence[float]]) -> str:
    """The |e| that costs ten points of test accuracy, rule by rule, and how long the weights are."""

    def said(band: SliceBand) -> str:
        length = endured(band)
        return f"{length:.2f}" if length < float(band.x[-1]) else f"more than {length:.2g}"

    told = {kind: [f"{rule} {said(own[kind])}" for rule, own in bands.items()] for kind in KINDS}
    costs = "; ".join(f"{kind}: {', '.join(lengths)}" for kind, lengths in told.items())
    own = ", ".join(f"{rule} {mean(lengths):.1f}" for rule, lengths in norms.items())
    return f"The |e| that costs ten points of test accuracy is, {costs}. Mean |w|: {own}. Shaded: 90 % of test lines."


def claims(bands: Bands) -> list[Claim]:
    """The paper's, seed by seed."""
    if not {"SAM", "Fisher SAM"} <= bands.keys():
        return []
    one, other = ([endured(line) for line in lines_of(bands[rule]["adversarial"])] for rule in ("Fisher SAM", "SAM"))
    found = difference(one, other)
    return [
        Claim(
            "Kim et al. 2022, figure 4",
            "along the gradient, Fisher SAM's networks endure more than SAM's",
            f"|e| that costs ten points: {points(found, '', 2)}",
            verdict(found),
        )
    ]


def draw(bands: Bands) -> Figure:
    """Loss and accuracy over |e|, adversarial and random; a colour a rule, train solid, test dashed."""
    figure = Figure(figsize=(8.4, 5.6), layout="compressed")
    axes, looks = figure.subplots(2, 2, sharex="col"), look(list(bands))
    for column, kind in enumerate(KINDS):
        for row, what in enumerate(("loss", "accuracy")):
            for index, (rule, own) in enumerate(bands.items()):
                for split in own[kind].loss:
                    curve(axes[row, column], own[kind], split, what, looks[rule], (index, len(bands)))
            axes[row, column].set(ylabel=what if what == "loss" else "accuracy (%)")
        axes[0, column].set(title=f"{kind} corruption")
        axes[1, column].set(xlabel="|e|", xlim=(0, float(next(iter(bands.values()))[kind].x[-1])))
    handles = [Line2D([], [], color=looks[rule][0], marker=looks[rule][1], markersize=4, label=rule) for rule in bands]
    handles += [Line2D([], [], color="black", linestyle=line_style(split), label=split) for split in ("train", "test")]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=SMALL, frameon=False)
    return figure


def curve(ax: Axes, band: SliceBand, split: str, what: str, look_of: tuple[str, str], marked: tuple[int, int]) -> None:
    """The mean over all lines, marked at points of its own so that equal curves are told apart; a test band."""
    (color, marker), scale, x = look_of, 1 if what == "loss" else 100, band.x.numpy()
    middle, style = scale * band.mean(split, what=what).numpy(), line_style(split)
    ax.plot(x, middle, color=color, linestyle=style, linewidth=1.2, marker=marker, markersize=3.5, markevery=marked)
    if split == "test":
        low, high = (scale * edge.numpy() for edge in band.band(split, what=what))
        ax.fill_between(x, low, high, color=color, alpha=0.12, linewidth=0)


if __name__ == "__main__":
    command(main, Config)
