"""Wrong labels: SGD against sharpness-aware rules, mixup and bootstrapping at 20, 40, 60 and 80 % symmetric flips.

Accuracy on clean test images after the last epoch and at the best one, and the share of wrong labels that the final
network gives back; 95 % intervals over seeds. Learning rate, weight decay and radius (mixup's alpha) of every row are
tuned at every share by the same random search. The claims: SAM beats SGD, mixup and bootstrapping, alone or with SAM
(Foret et al. 2021, arXiv:2010.01412, table 4); Fisher SAM beats SAM (Kim et al. 2022, arXiv:2206.04920, table 4).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

import landscape as ls
from analysis_scripts._shared.claims import Claim, points
from analysis_scripts._shared.frame import command, publish
from analysis_scripts._shared.many_networks import SETTING, data_of, measured
from analysis_scripts._shared.over_seeds import difference, interval, verdict
from analysis_scripts._shared.random_search import Search
from analysis_scripts._shared.variants import VARIANTS, Variant, network, tune_at
from landscape.plots.style import SMALL, look
from landscape.training import read_log

PANELS = {
    "last": "test accuracy (%), last epoch",
    "best": "test accuracy (%), best epoch",
    "fitted": "wrong labels given back (%)",
}
MIXUP = Variant("sgd", 1, (0.1, 4.0), lambda _at: {}, others=lambda at: {"mixup": at.radius})
ROWS: dict[str, Variant] = {name: VARIANTS[name] for name in ("SGD", "SAM", "ASAM", "Fisher SAM", "Eigen-SAM")} | {
    "Mixup": MIXUP,  # a second training on the network's own labels costs as much as SAM's second pass
    "Bootstrap": replace(VARIANTS["SGD"], passes=2, others=lambda _at: {"bootstrap_rounds": 1}),
    "Bootstrap + SAM": replace(VARIANTS["SAM"], passes=4, others=lambda _at: {"bootstrap_rounds": 1}),
}
CLAIMS: dict[str, dict[str, tuple[str, ...]]] = {  # paper to the rules that are said to be above others
    "Foret et al. 2021, table 4": {"SAM": ("SGD", "Mixup", "Bootstrap"), "Bootstrap + SAM": ("Bootstrap",)},
    "Kim et al. 2022, table 4": {"Fisher SAM": ("SAM",)},
}
Runs = Mapping[str, Mapping[float, Sequence[Mapping[str, float]]]]  # rule, share of flips, seed, quantity
Intervals = dict[str, dict[float, dict[str, tuple[float, float, float]]]]  # rule, share of flips, quantity


@dataclass(frozen=True)
class Config:
    """What is trained."""

    rules: tuple[str, ...] = tuple(ROWS)  # the first is what the others are compared with
    flips: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    setting: dict[str, Any] = field(default_factory=lambda: dict(SETTING))
    search: Search = field(default_factory=Search)
    workers: int = 2
    folder: str = "figures/label_noise"
    runs: str = "runs/label_noise"
    tuning: str = "runs/tuning"


def main(config: Config) -> dict[str, Any]:
    """Train and measure."""
    rows = {rule: ROWS[rule] for rule in config.rules}
    tuned = {share: tune_at(config, rows, label_noise=share) for share in config.flips}
    networks = {
        (rule, share, seed): network(
            config, f"{rule}-{share:g}-{seed}", own, tuned[share][rule].point, seed, label_noise=share
        )
        for (rule, own), share, seed in product(rows.items(), config.flips, config.seeds)
    }
    found = measured(networks, measure, config.workers)
    runs = {
        rule: {share: [found[rule, share, seed] for seed in config.seeds] for share in config.flips}
        for rule in config.rules
    }
    table = {
        rule: {share: {key: interval([run[key] for run in own]) for key in PANELS} for share, own in levels.items()}
        for rule, levels in runs.items()
    }
    edges = {f"{rule}, {share:g}": own[rule].edges for share, own in tuned.items() for rule in rows if own[rule].edges}
    points = {share: {rule: own[rule].point for rule in rows} for share, own in tuned.items()}
    content = {"sentence": sentence(runs), "intervals": table, "runs": runs, "tuned": points, "at_edge": edges}
    return publish(config, "label_noise", content, partial(draw, table), claims=claims(runs))


def measure(folder: Path) -> dict[str, Any]:
    """Last and best test accuracy, and the share of the flipped labels that the final network predicts."""
    model, metadata = ls.load_checkpoint(folder)
    data = data_of(metadata["config"])
    given = model(data.train_inputs[data.flipped]).argmax(1)
    return {
        "last": metadata["test_accuracy"],
        "best": max(line["test_accuracy"] for line in read_log(folder)),
        "fitted": float((given == data.train_targets[data.flipped]).float().mean()),
    }


def sentence(runs: Runs) -> str:
    """The best rule's last epoch beside the base's best epoch."""
    base = next(iter(runs))
    best = {}
    for share in runs[base]:
        gains = {rule: gain(runs, rule, base, share, "best") for rule in runs if rule != base}
        rule = max(gains, key=lambda name: gains[name][0])
        best[share] = f"{100 * share:g} %: {rule} {points(gains[rule])}"
    return (
        f"The best rule's last epoch above {base}'s best epoch, which early stopping on the test set would find: "
        f"{'; '.join(best.values())}."
    )


def claims(runs: Runs) -> list[Claim]:
    """Each claim at each share, last epochs, seed by seed."""
    return [
        Claim(paper, f"{one} above {other}", points(found), verdict(found), f"at {100 * share:g} %")
        for paper, rules in CLAIMS.items()
        for one, others in rules.items()
        for other in others
        if {one, other} <= runs.keys()
        for share in runs[one]
        for found in [gain(runs, one, other, share)]
    ]


def gain(runs: Runs, one: str, other: str, share: float, key: str = "last") -> tuple[float, ...]:
    """Points of accuracy by which the last epoch of one rule is above another's, with their interval."""
    ends = [run["last"] for run in runs[one][share]], [run[key] for run in runs[other][share]]
    return tuple(100 * end for end in difference(*ends))


def draw(table: Intervals) -> Figure:
    """A panel a quantity, a line a rule; the markers of one share are moved apart."""
    figure = Figure(figsize=(9.0, 3.5), layout="compressed")
    axes, looks = figure.subplots(1, len(PANELS)), look(list(table))
    axes[1].sharey(axes[0])
    for ax, (key, label) in zip(axes, PANELS.items(), strict=True):
        for index, (rule, levels) in enumerate(table.items()):
            color, marker = looks[rule]
            x = [100 * share + 1.4 * (index - (len(table) - 1) / 2) for share in levels]
            middle, low, high = zip(*([100 * end for end in own[key]] for own in levels.values()), strict=True)
            ax.vlines(x, low, high, color=color, linewidth=1.0)
            ax.plot(x, middle, marker=marker, color=color, markersize=3.5, linewidth=0.8, label=rule)
        shares = [100 * share for share in next(iter(table.values()))]
        ax.set(xlabel="flipped training labels (%)", ylabel=label, xticks=shares)
    lines = axes[0].get_lines()
    figure.legend(handles=lines, loc="outside upper center", ncols=len(lines), fontsize=SMALL, frameon=False)
    return figure


if __name__ == "__main__":
    command(main, Config)
