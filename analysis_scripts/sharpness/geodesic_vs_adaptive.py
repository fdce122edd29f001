"""Does sharpness that knows the symmetry follow the gap better? Many diagonal networks on five sparse regressions.

x ↦ <u ∘ v, x> has the symmetry uⱼ → c uⱼ, vⱼ → vⱼ / c. Networks that differ in seed and scale of the start fit the same
n < d noiseless samples of a sparse β*; their expected test loss is |u ∘ v − β*|². Kendall's τ of adaptive and of both
geodesic sharpnesses with it, at converged ascents, is set beside the published values, over independent data sets.
Source: da Silva et al. 2025, arXiv:2505.05409: d, the share of zeros in β*, the number of networks and the loss where
training ends. Not printed there, and assumed here: n, the loss as a mean over samples, normal entries of X and β*, the
training (gradient descent), starts and ρ. The small starts are those whose gaps fill the published axis, 0 to 1.5: the
range was chosen by that on a data set that is not used, before any τ was seen. The wide ones reach far beyond it.

The metric "mix" is |d(u ∘ v)|²/2 on displacements that are orthogonal to the symmetry, so that its ball is the same for
all networks of a data set but where geodesics end at uⱼvⱼ = 0: with K = XᵀX/n it would give 2ρ² λmax(K) for each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from math import sqrt
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

import landscape as ls
from analysis_scripts._shared.claims import Claim, points
from analysis_scripts._shared.frame import command, publish
from analysis_scripts._shared.over_seeds import difference, interval, verdict
from analysis_scripts.sharpness.diagonal_networks import Piece, Setting, measure
from landscape.plots.style import GREY, RED, SMALL, legend_above, look
from landscape.processes import pool
from landscape.processes.progress import progress_bar

PUBLISHED = {"adaptive": -0.68, "inv": -0.83, "mix": -0.86}  # a figure and a table of the paper exchange the last two
PAPER = "da Silva et al. 2025, section 5.1, diagonal networks"


@dataclass(frozen=True)
class Config:
    """The whole: data sets times ranges of starts."""

    setting: Setting = field(default_factory=Setting)
    starts: Mapping[str, Sequence[float]] = field(
        default_factory=lambda: {"small starts": (0.02, 0.2), "wide starts": (0.02, 2.0)}
    )  # standard deviations of u and v at the start, even in their logarithm
    datasets: Sequence[int] = (0, 1, 2, 3, 4)  # seeds of X, β* and the starts
    workers: int = 2
    runs: str = "runs/geodesic_vs_adaptive"
    folder: str = "figures/geodesic_vs_adaptive"


Found = Mapping[tuple[str, int], Mapping[str, Tensor]]  # (range of starts, data set) to what `measure` gives


def main(config: Config) -> dict[str, Any]:
    """Train and measure side by side, correlate."""
    pieces = {
        (name, seed): Piece(config.setting, tuple(ends), seed)
        for (name, ends), seed in product(config.starts.items(), config.datasets)
    }
    by_piece = {}
    with (
        pool(partial(measure, runs=config.runs), config.workers, threads=1, unit="data set") as results,
        progress_bar(len(pieces), unit="data set") as bar,
    ):
        for own, answer in results(pieces.values()):
            by_piece[own.starts, own.seed] = answer
            bar.update()
    found = {key: by_piece[own.starts, own.seed] for key, own in pieces.items()}
    taus = correlations(config, found)
    open_ = {key: int((own["converged"] == 0).sum()) for key, own in found.items()}
    content = {
        "sentence": sentence(config, found, taus),
        "tau_low_high": {
            f"{name}, data set {seed}": {label: [own.tau, own.low, own.high] for label, own in of_one.items()}
            for (name, seed), of_one in taus.items()
        },
        "not_fitted": sum(int((own["loss"] > config.setting.loss).sum()) for own in found.values()),
        "not_converged": {f"{name}, data set {seed}": count for (name, seed), count in open_.items()},
    }
    arrays = {f"{name}, data set {seed}, {key}": own[key] for (name, seed), own in found.items() for key in own}
    return publish(
        config, "geodesic", content, partial(draw, config, found, taus), arrays=arrays, claims=claims(config, taus)
    )


Taus = Mapping[tuple[str, int], Mapping[str, ls.Correlation]]


def correlations(config: Config, found: Found) -> Taus:
    """τ of each sharpness at each radius, and of the start, with the gap, over the networks that fit."""
    taus = {}
    for key, own in found.items():
        fitted = own["loss"] <= config.setting.loss
        columns = {"gap": own["gap"][fitted], "start": own["init"][fitted]}
        for (i, rho), (j, name) in product(enumerate(config.setting.radii), enumerate(PUBLISHED)):
            columns[f"{name}, ρ = {rho:g}"] = own["sharpness"][i, j][fitted]
        rows = [
            dict(zip(columns, row, strict=True)) for row in zip(*(c.tolist() for c in columns.values()), strict=True)
        ]
        taus[key] = ls.correlate(rows, [name for name in columns if name != "gap"], "gap", resamples=200)
    return taus


def over_datasets(config: Config, taus: Taus, starts: str, label: str) -> list[float]:
    """τ of one label, a value a data set."""
    return [taus[starts, seed][label].tau for seed in config.datasets]


def near(taus: Sequence[float], published: float) -> str:
    """Whether a published τ of one data set may be one of ours: their sign, and the range of one more value.

    Sign: the interval of the mean leaves out 0. Range: mean ± t s sqrt(1 + 1/K) over K data sets.
    """
    mean, low, high = interval(taus)
    reach = (high - mean) * sqrt(len(taus) + 1)
    if (low > 0 or high < 0) and (mean < 0) != (published < 0):
        return "differs"
    if abs(published - mean) > reach:
        return "differs"
    return "agrees" if low > 0 or high < 0 else "cannot say"


def claims(config: Config, taus: Taus) -> list[Claim]:
    """Each published τ and the order of adaptive and inv, for each range of starts, at the first radius."""
    rho, found = config.setting.radii[0], []
    for starts in config.starts:
        values = {name: over_datasets(config, taus, starts, f"{name}, ρ = {rho:g}") for name in PUBLISHED}
        for name, published in PUBLISHED.items():
            own = [taus[starts, seed][f"{name}, ρ = {rho:g}"] for seed in config.datasets]
            width = np.mean([each.high - each.low for each in own]) / 2
            told = f"{points(interval(values[name]), '', 2)} over data sets, ± {width:.2f} within one"
            claim = f"τ of {name} with the gap is {published:+.2f}, {starts}"
            found.append(Claim(PAPER, claim, told, near(values[name], published)))
        closer = difference(values["inv"], values["adaptive"])
        claim = f"inv follows the gap more closely than adaptive, τ lower by .15, {starts}"
        found.append(Claim(PAPER, claim, f"{points(closer, '', 3)} over data sets", verdict(closer, -1)))
    return found


def sentence(config: Config, found: Found, taus: Taus) -> str:
    """What was trained, how the ascents ended, and what is true of mix."""
    setting, rho, told = config.setting, config.setting.radii[0], []
    for starts, (low, high) in config.starts.items():
        own = [found[starts, seed] for seed in config.datasets]
        gaps = torch.cat([each["gap"] for each in own])
        shares = torch.cat([each["sharpness"][0, list(PUBLISHED).index("mix")] / each["constant"] for each in own])
        told.append(
            f"{starts} ({low:g} to {high:g}): gaps {gaps.min():.2g} to {gaps.max():.2g}, mix "
            f"{shares.min() / rho**2:.2f} to {shares.max() / rho**2:.2f} of 2ρ² λmax(XᵀX/n), its value where no "
            f"geodesic ends; τ of the start "
            f"{points(interval(over_datasets(config, taus, starts, 'start')), '', 2)}"
        )
    ascents = sum(own["converged"].numel() for own in found.values())
    open_ = sum(int((own["converged"] == 0).sum()) for own in found.values())
    unfit = sum(int((own["loss"] > setting.loss).sum()) for own in found.values())
    return (
        f"{setting.networks} diagonal networks on each of {len(config.datasets)} data sets, d = {setting.inputs}, n = "
        f"{setting.samples}, {setting.nonzero} of β* not 0, trained to a loss of {setting.loss:g} by gradient descent "
        f"({unfit} did not get there and are left out). n, training, starts and ρ are assumed. {open_} of {ascents} "
        f"ascents did not converge. {'; '.join(told)}. Below: ρ = {rho:g}."
    )


def draw(config: Config, found: Found, taus: Taus) -> Figure:
    """Each sharpness against the gap, from the first range of starts, and τ over the data sets."""
    figure = Figure(figsize=(6.8, 7.4), layout="constrained")
    axes = figure.subplot_mosaic([[*PUBLISHED], ["τ"] * 3], height_ratios=[1.0, 1.9])
    first, marks = next(iter(config.starts)), look([f"data set {seed}" for seed in config.datasets])
    for index, name in enumerate(PUBLISHED):
        ax = axes[name]
        for seed, (label, (color, marker)) in zip(config.datasets, marks.items(), strict=True):
            own = found[first, seed]
            done = own["converged"][0, index] == 1
            for part, face in ((done, "none"), (~done, color)):
                x, y = own["sharpness"][0, index][part], own["gap"][part]
                ax.plot(x, y, marker, color=color, mfc=face, ms=3.0, mew=0.7, label=label if face == "none" else None)
        ax.xaxis.set_major_locator(MaxNLocator(3))
        ax.set(yscale="log", xlabel=f"sharpness, {name},\nρ = {config.setting.radii[0]:g}, loss units")
    axes["adaptive"].set_ylabel(f"gap = test loss,\n{first}")
    handles, labels = axes["adaptive"].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=SMALL)
    forest(config, taus, axes["τ"])
    return figure


def forest(config: Config, taus: Taus, ax: Axes) -> None:
    """A row a sharpness, radius and range of starts: the data sets, their mean with its interval, the published τ."""
    rows = [(n, r, s) for n, s, r in product(PUBLISHED, config.starts, config.setting.radii)]
    for place, (name, rho, starts) in enumerate(rows):
        values = over_datasets(config, taus, starts, f"{name}, ρ = {rho:g}")
        mean, low, high = interval(values)
        ax.plot(values, [place] * len(values), "|", color=GREY, ms=7, label="a data set" if place == 0 else None)
        ax.hlines(place, low, high, color="black", linewidth=1.2)
        ax.plot(mean, place, "o", color="black", ms=4, label="mean, 95 % interval" if place == 0 else None)
        label = "published, its ρ and starts unknown" if place == 0 else None
        ax.plot(PUBLISHED[name], place, "x", color=RED, ms=6, label=label)
    ax.axvline(0.0, color=GREY, linewidth=0.8, linestyle=":", label="by chance")
    ax.set_yticks(range(len(rows)), [f"{name}, {starts}, ρ = {rho:g}" for name, rho, starts in rows])
    ax.set(xlim=(-1.03, 1.03), ylim=(len(rows) - 0.4, -0.6), xlabel="Kendall's τ of sharpness and gap, over networks")
    legend_above(ax, columns=2)


if __name__ == "__main__":
    command(main, Config)
