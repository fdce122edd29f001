"""Wrong labels: SGD against four sharpness-aware rules at 20, 40, 60 and 80 % symmetric flips of the training labels.

Accuracy on clean test images after the last epoch and at the best one, and the share of wrong labels that the final
network gives back; 95 % intervals over seeds. The radii are those that rule_table.py tuned at 40 %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

import landscape as ls
from analysis_scripts._shared.frame import command, publish
from analysis_scripts._shared.many_networks import NAMES, RADII, SETTING, data_of, measured, training
from analysis_scripts._shared.over_seeds import difference, interval
from landscape.plots.style import SMALL, look
from landscape.training import read_log

PANELS = {
    "last": "test accuracy (%), last epoch",
    "best": "test accuracy (%), best epoch",
    "fitted": "wrong labels given back (%)",
}
Intervals = dict[str, dict[float, dict[str, tuple[float, float, float]]]]  # rule, share of flips, quantity


@dataclass(frozen=True)
class Config:
    """What is trained."""

    rules: tuple[str, ...] = tuple(RADII)  # the first is what the others are compared with
    flips: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)
    seeds: tuple[int, ...] = (0, 1, 2)
    setting: dict[str, Any] = field(default_factory=lambda: dict(SETTING))
    workers: int = 2
    folder: str = "figures/label_noise"
    runs: str = "runs/label_noise"


def main(config: Config) -> dict[str, Any]:
    """Train and measure."""
    networks = {
        (rule, share, seed): training(config, f"{rule}-{share:g}-{seed}", rule, seed, label_noise=share)
        for rule, share, seed in product(config.rules, config.flips, config.seeds)
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
    content = {"sentence": sentence(runs), "intervals": table, "runs": runs}
    return publish(config, "label_noise", content, partial(draw, table))


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


def sentence(runs: Mapping[str, Mapping[float, Sequence[Mapping[str, float]]]]) -> str:
    """How far the best rule is above the first one, seed by seed: above its last epoch and above its best one."""
    base, *others = runs
    parts, points = [], "{:+.1f} [{:+.1f}, {:+.1f}]"
    for share, first in runs[base].items():
        ends = {rule: [run["last"] for run in runs[rule][share]] for rule in others}
        last, best = (
            {rule: difference(own, [run[key] for run in first]) for rule, own in ends.items()}
            for key in ("last", "best")
        )
        rule = max(last, key=lambda name: last[name][0])
        told = [points.format(*(100 * x for x in own[rule])) for own in (last, best)]
        parts.append(f"{100 * share:g} % flips: {NAMES[rule]} {', '.join(told)}")
    return (
        f"Points of the best rule's last epoch above {NAMES[base]}'s last epoch, and above its best epoch, which early "
        f"stopping on the test set would find: {'; '.join(parts)}."
    )


def draw(table: Intervals) -> Figure:
    """A panel a quantity, a line a rule; the markers of one share are moved apart."""
    figure = Figure(figsize=(9.0, 3.5), layout="compressed")
    axes, looks = figure.subplots(1, len(PANELS)), look(list(table))
    axes[1].sharey(axes[0])
    for ax, (key, label) in zip(axes, PANELS.items(), strict=True):
        for index, (rule, levels) in enumerate(table.items()):
            color, marker = looks[rule]
            x = [100 * share + 1.1 * (index - (len(table) - 1) / 2) for share in levels]
            middle, low, high = zip(*([100 * end for end in own[key]] for own in levels.values()), strict=True)
            ax.vlines(x, low, high, color=color, linewidth=1.0)
            ax.plot(x, middle, marker=marker, color=color, markersize=3.5, linewidth=0.8, label=NAMES[rule])
        shares = [100 * share for share in next(iter(table.values()))]
        ax.set(xlabel="flipped training labels (%)", ylabel=label, xticks=shares)
    lines = axes[0].get_lines()
    figure.legend(handles=lines, loc="outside upper center", ncols=len(lines), fontsize=SMALL, frameon=False)
    return figure


if __name__ == "__main__":
    command(main, Config)
