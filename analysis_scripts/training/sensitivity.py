"""How flat is the test accuracy over a rule's two settings: (γ, η) of Fisher SAM, (ρ, α) of Eigen-SAM.

Both papers show maps with a broad region of nearly equal accuracy: Kim et al. 2022, arXiv:2206.04920, figure 5, where
only a γ that is too large falls out; Luo et al. 2024, arXiv:2501.12666. Digits with 40 % wrong labels, mean over seeds;
learning rate, weight decay and the radius in the middle are tuned by the search that all comparisons share. The spread
between seeds says which differences of the map mean something.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from analysis_scripts._shared.claims import Claim
from analysis_scripts._shared.frame import command, publish
from analysis_scripts._shared.many_networks import SETTING, measured
from analysis_scripts._shared.random_search import Search
from analysis_scripts._shared.variants import VARIANTS, network, tune_at
from landscape.plots.style import SMALL
from landscape.storage.results import read_json

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Map:
    """Two settings of a rule: the values of one, and the radius in multiples of the tuned one."""

    rows: tuple[str, str, tuple[float, ...]]  # setting, letter, values
    letter: str  # of the radius
    paper: str
    factors: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)


MAPS = {
    "Fisher SAM": Map(("eta", "η", (0, 1, 10, 100, 1e3, 1e4)), "γ", "Kim et al. 2022, figure 5"),
    "Eigen-SAM": Map(("alpha", "α", (0, 0.05, 0.1, 0.2, 0.5, 1.0)), "ρ", "Luo et al. 2024, sensitivity"),
}


@dataclass(frozen=True)
class Config:
    """What is trained."""

    maps: dict[str, Map] = field(default_factory=lambda: dict(MAPS))
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    setting: dict[str, Any] = field(default_factory=lambda: {**SETTING, "label_noise": 0.4})
    search: Search = field(default_factory=Search)
    workers: int = 2
    folder: str = "figures/sensitivity"
    runs: str = "runs/sensitivity"
    tuning: str = "runs/tuning"


def main(config: Config) -> dict[str, Array]:
    """Train and measure."""
    tuned = tune_at(config, {rule: VARIANTS[rule] for rule in config.maps})
    points = {rule: own.point for rule, own in tuned.items()}
    networks = {}
    for rule, own in config.maps.items():
        for y, x, seed in product(own.rows[2], own.factors, config.seeds):
            point = points[rule] | {"radius": x * points[rule]["radius"]}
            run = network(config, f"{rule}-{y:g}-{x:g}-{seed}", VARIANTS[rule], point, seed)
            run.rule_settings[own.rows[0]] = y
            networks[rule, y, x, seed] = run
    found = measured(networks, accuracy, config.workers)
    maps = {}  # (seeds, rows, columns)
    for rule, own in config.maps.items():
        keys = product((rule,), own.rows[2], own.factors, config.seeds)
        values = np.array([found[key].get("accuracy", np.nan) for key in keys])
        maps[rule] = np.moveaxis(values.reshape(len(own.rows[2]), len(own.factors), -1), -1, 0).copy()
    said = "Rows at 0 are SAM. Colours end ten points below the best cell."
    content = {"sentence": said, "accuracy": {rule: own.tolist() for rule, own in maps.items()}, "tuned": points}
    publish(config, "sensitivity", content, partial(draw, config.maps, maps, points), claims=claims(maps))
    return maps


def accuracy(folder: Path) -> dict[str, Any]:
    """Of the final network on clean test images."""
    return {"accuracy": read_json(folder / "model.json")["test_accuracy"]}


def noise(values: Array) -> float:
    """Standard deviation of a cell's mean over seeds, pooled over the map: (seeds, rows, columns)."""
    return float(np.sqrt(np.nanmean(values.var(0, ddof=1)) / len(values)))


def flat_share(values: Array, within: float = 2.0) -> float:
    """Share of the cells whose mean is within so many standard deviations of a difference, √2 noise, of the best."""
    mean = values.mean(0)
    return float(np.mean(mean >= np.nanmax(mean) - within * np.sqrt(2) * noise(values)))


def claims(maps: Mapping[str, Array]) -> list[Claim]:
    """How broad the best region is, along which setting the accuracy changes."""
    found = []
    for rule, values in maps.items():
        mean = values.mean(0)
        rows, columns = (np.ptp(np.nanmean(mean, axis)) for axis in (1, 0))
        own, share = MAPS[rule], flat_share(values)
        text = (
            f"{100 * np.nanmin(mean):.1f} to {100 * np.nanmax(mean):.1f} %, {100 * share:.0f} % of the cells within "
            f"the seeds' spread of the best; averages move {100 * columns:.1f} points with {own.letter} and "
            f"{100 * rows:.1f} with {own.rows[1]}"
        )
        claim = f"{rule}'s accuracy is nearly flat over most of ({own.letter}, {own.rows[1]})"
        found.append(Claim(own.paper, claim, text, "agrees" if share > 0.5 else "differs"))
    return found


def draw(settings: Mapping[str, Map], maps: Mapping[str, Array], points: Mapping[str, Mapping[str, float]]) -> Figure:
    """The maps on one scale of colours, which ends ten points below the best cell; each cell with its mean."""
    figure = Figure(figsize=(4.2 * len(maps), 3.4), layout="compressed")
    axes = figure.subplots(1, len(maps), squeeze=False)[0]
    means = {rule: 100 * values.mean(0) for rule, values in maps.items()}
    low, high = (end(np.stack([end(own) for own in means.values()])) for end in (np.nanmin, np.nanmax))
    lowest = max(float(low), float(high) - 10)
    for ax, (rule, mean) in zip(axes, means.items(), strict=True):
        image = cells(ax, settings[rule], mean, lowest, float(high), points[rule]["radius"])
        ax.set_title(f"{rule}: a cell's mean ± {100 * noise(maps[rule]):.1f}")
    figure.colorbar(image, ax=axes, label="test accuracy (%)", extend="min" if lowest > low else "neither")
    return figure


def cells(ax: Axes, own: Map, mean: Array, low: float, high: float, radius: float) -> AxesImage:
    """One map, the values of both settings at its sides."""
    image = ax.imshow(mean, origin="lower", cmap="viridis", vmin=low, vmax=high, aspect="auto")
    for (j, i), value in np.ndenumerate(mean):
        dark = value < (low + high) / 2
        ax.text(i, j, f"{value:.1f}", ha="center", va="center", fontsize=SMALL, color="white" if dark else "black")
    ax.set(xlabel=f"{own.letter} (tuned: {radius:.2g})", ylabel=own.rows[1])
    ax.set_xticks(range(len(own.factors)), [f"{factor * radius:.2g}" for factor in own.factors])
    ax.set_yticks(range(len(own.rows[2])), [f"{y:g}" for y in own.rows[2]])
    return image


if __name__ == "__main__":
    command(main, Config)
