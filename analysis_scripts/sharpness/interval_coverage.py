"""Do the intervals of `correlate` hold what they promise? Tables of networks in clusters, of which the truth is known.

Metric, gap and a third column of setting k and seed s are jointly normal: an effect of the setting plus noise of the
seed, so that tau of networks of different settings is (2/π) asin(r), and that of one setting is noise; of the metric's
sign it is tau-b = (2^1.5/π) asin(r/√2). Beside the interval of the package stand the others that were tried, among them
the percentile bootstrap that it had before, which counted pairs of one setting. Then the difference of two taus, the
partial correlation, and how often the corrected p of the best of unrelated metrics is below 0.05. What is computed is
kept under runs/, table after table of one truth.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import asin, pi, sin
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis_scripts._shared.frame import Arrays, command, kept, publish
from analysis_scripts.sharpness.interval_candidates import BEFORE, OURS, candidates
from landscape.plots.style import SMALL
from landscape.study.statistics.comparison import difference
from landscape.study.statistics.interval import ROUGH
from landscape.study.statistics.kendall import tau_b
from landscape.study.statistics.partial import partial_interval
from landscape.study.statistics.permutation import permutation_p
from landscape.study.statistics.resampling import permutations

Array = NDArray[np.float64]
LOOKS = {
    OURS: ("o", "black", "black"),
    BEFORE: ("v", "white", "black"),
    "percentile": ("s", "white", "0.45"),
    "BCa": ("D", "white", "0.45"),
    "studentised bootstrap, Fisher's z": ("^", "0.7", "0.45"),
    "jackknife, t, Fisher's z": ("P", "0.7", "0.45"),
    "Hoeffding's variance, t, Fisher's z": ("X", "0.7", "0.45"),
}
TAU, TIES, DIFFERENCE, PARTIAL = "τ", "2 values", "Δ|τ|", "partial"
LEVEL, LEAST, HIGH, LOW = 0.05, 0.88, 0.97, 0.93


@dataclass(frozen=True)
class Config:
    """What is simulated; every number of the figure follows from it."""

    designs: tuple[tuple[int, int], ...] = ((5, 3), (8, 3), (15, 3), (30, 2))  # settings, seeds
    taus: tuple[float, ...] = (0.0, 0.5, 0.73)
    noise: float = 0.2  # standard deviation of the seed's part in that of the setting's
    tables: int = 4000
    resamples: int = 400  # of the bootstraps
    p_tables: int = 10_000  # of the size of the corrected p
    metrics: int = 8  # unrelated ones, of which the best is tested
    permutations: int = 199
    runs: str = "runs/interval_coverage"
    folder: str = "figures/interval_coverage"


def normal_r(tau: float) -> float:
    """The correlation at which two jointly normal numbers have this tau."""
    return sin(pi * tau / 2)


def tables(design: tuple[int, int], r: Any, config: Config, count: int, seed: int) -> tuple[Array, NDArray[np.int64]]:
    """Jointly normal columns with correlations r among networks of different settings.

    Returns:
        Columns (count, columns, n), and the setting of each network (n,).
    """
    settings, seeds = design
    random = np.random.default_rng([seed, settings, seeds])
    r = np.array(r)
    shared = np.where(np.eye(len(r)) > 0, 1.0, r * (1 + config.noise**2))
    effects = random.standard_normal((count, settings, len(r))) @ np.linalg.cholesky(shared).T
    networks = np.repeat(effects, seeds, axis=1)
    networks += config.noise * random.standard_normal(networks.shape)
    return networks.transpose(0, 2, 1), np.repeat(np.arange(settings), seeds)


def of_tau(design: tuple[int, int], tau: float, config: Config) -> Arrays:
    """Both ends of every interval, (tables, 2) each."""
    r = normal_r(tau)
    columns, clusters = tables(design, [[1, r], [r, 1]], config, config.tables, seed=1)
    random = np.random.default_rng([2, *design])
    draws = random.multinomial(design[0], np.full(design[0], 1 / design[0]), size=(config.tables, config.resamples))
    found = [
        candidates(own[0], own[1], clusters, drawn.astype(float)) for own, drawn in zip(columns, draws, strict=True)
    ]
    return {name: np.array([each[name] for each in found]) for name in LOOKS}


def of_ties(design: tuple[int, int], r: float, config: Config) -> Arrays:
    """Of tau-b of a metric of two values, the sign of a normal one."""
    columns, clusters = tables(design, [[1, r], [r, 1]], config, config.tables, seed=6)
    return {OURS: np.array([tau_b(np.sign(x), y, clusters).interval for x, y in columns])}


def of_difference(design: tuple[int, int], first: float, config: Config) -> Arrays:
    """Of |tau| of one metric less that of another whose tau is 0.5."""
    a, b = normal_r(first), normal_r(0.5)
    columns, clusters = tables(design, [[1, 0.75, a], [0.75, 1, b], [a, b, 1]], config, config.tables, seed=3)
    names = ("x", "z", "generalization_gap", "setting")
    ends = []
    for own in columns:
        rows = [dict(zip(names, row, strict=True)) for row in zip(*own, clusters, strict=True)]
        ends.append(difference(rows, "x", "z", cluster=["setting"]))
    return {OURS: np.array(ends)}


def of_partial(design: tuple[int, int], r: float, config: Config) -> Arrays:
    """Of the correlation given a third column that has 0.6 with both."""
    columns, clusters = tables(design, [[1, r, 0.6], [r, 1, 0.6], [0.6, 0.6, 1]], config, config.tables, seed=4)
    return {OURS: np.array([partial_interval(x, y, z, clusters)[1:] for x, y, z in columns])}


def of_p(design: tuple[int, int], config: Config) -> Arrays:
    """The smallest corrected p of metrics that have nothing to do with the gap, (tables,)."""
    columns, clusters = tables(design, np.eye(config.metrics + 1), config, config.p_tables, seed=5)
    orders = (permutations(clusters, config.permutations, seed) for seed in range(len(columns)))
    return {
        "p": np.array([permutation_p(c[1:], c[0], o, clusters)[1].min() for c, o in zip(columns, orders, strict=True)])
    }


def spearman(r: float) -> float:
    """Of jointly normal numbers."""
    return 6 / pi * asin(r / 2)


def truths(config: Config) -> dict[str, tuple[Callable[..., Arrays], float, float]]:
    """Row of the figure to what computes it, of what, and the truth."""
    strong = {r: (spearman(r) - spearman(0.6) ** 2) / (1 - spearman(0.6) ** 2) for r in (0.36, 0.8)}
    halves = {r: 2**1.5 / pi * asin(r / 2**0.5) for r in (0.0, normal_r(0.5))}  # by trivariate orthants
    return {
        **{f"{TAU} = {tau:g}": (of_tau, tau, tau) for tau in config.taus},
        **{f"{TIES} = {truth:.2g}": (of_ties, r, truth) for r, truth in halves.items()},
        **{f"{DIFFERENCE} = {tau - 0.5:.2g}": (of_difference, tau, tau - 0.5) for tau in (0.5, 0.73)},
        **{f"{PARTIAL} = {truth:.2f}": (of_partial, r, truth) for r, truth in strong.items()},
    }


def main(config: Config) -> dict[str, Any]:
    """All tables, the shares, and the figure."""
    table: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    sizes = {}
    for design in config.designs:
        label = f"{design[0]} × {design[1]}"
        for row, (compute, what, truth) in truths(config).items():
            path = Path(config.runs) / f"{design[0]}x{design[1]}-{compute.__name__}-{what:g}"
            found = kept(path, config, partial(compute, design, what, config))
            table.setdefault(row, {})[label] = {name: judged(own, truth) for name, own in found.items()}
        p = kept(Path(config.runs) / f"{design[0]}x{design[1]}-p", config, partial(of_p, design, config))["p"]
        sizes[label] = float((p <= LEVEL).mean())
    content = {"sentence": sentence(config, table, sizes), "intervals": table, "size of the corrected p": sizes}
    return publish(config, "interval_coverage", content, partial(draw, config, table, sizes), formats=("png", "pdf"))


def judged(ends: Array, truth: float) -> dict[str, float]:
    """Share of intervals that hold the truth, lie below it, above it, their mean length; share of tables without."""
    known = np.isfinite(ends).all(1)
    low, high = ends[known].T
    shares = {"holds": (low <= truth) & (truth <= high), "below": high < truth, "above": low > truth}
    found = {name: float(own.mean()) for name, own in shares.items()}
    return {**found, "length": float((high - low).mean()), "without": float(1 - known.mean())}


def sentence(config: Config, table: Mapping[str, Any], sizes: Mapping[str, float]) -> str:
    """What holds, and under which conditions."""

    def span(name: str, rows: str, rough: bool, what: str = "holds") -> str:
        shares = [
            own[f"{k} × {m}"][name][what]
            for row, own in table.items()
            if row.startswith(rows)
            for k, m in config.designs
            if (k < ROUGH) == rough
        ]
        return f"{100 * min(shares):.1f} to {100 * max(shares):.1f} %" if shares else "no design"

    def spans(name: str, rows: str) -> str:
        return f"{span(name, rows, False)} at {ROUGH} settings and more, {span(name, rows, True)} below"

    return (
        f"Settings × seeds; {config.tables:,} tables of networks a row, columns jointly normal, seeds with "
        f"{config.noise:g} of the settings' standard deviation. The 95 % interval used here holds τ in "
        f"{spans(OURS, TAU)}, where it is called rough; the one before, which counted pairs of one setting, in "
        f"{spans(BEFORE, TAU)}. Of a metric of two values: {spans(OURS, TIES)}. Difference of two |τ|, of 0.5 and of "
        f"what is named more: {spans(OURS, DIFFERENCE)}. "
        f"Rank correlation given a third column: {spans(OURS, PARTIAL)}, where "
        f"{span(OURS, PARTIAL, True, 'without')} of tables have no interval. Grey: {100 * LOW:g} to {100 * HIGH:g} %, "
        f"below {ROUGH} settings {100 * LEAST:g} % and more. Lowest panel: the least of {config.metrics} corrected p "
        f"of metrics unrelated to the gap is at most {LEVEL:g} in {100 * min(sizes.values()):.1f} to "
        f"{100 * max(sizes.values()):.1f} % ({config.permutations} permutations, {config.p_tables:,} tables; bars: "
        f"two standard errors)."
    )


def draw(config: Config, table: Mapping[str, Any], sizes: Mapping[str, float]) -> Figure:
    """Coverage and length, a row a truth and design; the size of the test below."""
    figure = Figure(figsize=(3.3, 7.6), layout="compressed")
    axes = figure.subplots(2, 2, width_ratios=(2, 1), height_ratios=(7, 1.2))
    labels: list[str] = []
    for row, own in table.items():
        for label, found in own.items():
            y = len(labels)
            band = (LEAST, 1.0) if int(label.split()[0]) < ROUGH else (LOW, HIGH)
            axes[0][0].fill_betweenx([y - 0.5, y + 0.5], 100 * band[0], 100 * band[1], color="0.88", linewidth=0)
            for name, each in reversed(found.items()):
                marker, face, edge = LOOKS[name]
                kind: dict[str, Any] = {"marker": marker, "mfc": face, "mec": edge, "ls": "", "ms": 3.5, "mew": 0.7}
                axes[0][0].plot([100 * each["holds"]], [y], **kind, label=name if y == 0 else None)
                axes[0][1].plot([each["length"]], [y], **kind)
            labels.append(f"{row}:  {label}" if label == next(iter(own)) else label)
    style(axes[0][0], labels, "truth held (% of tables)")
    style(axes[0][1], [""] * len(labels), "mean length")
    axes[0][0].axvline(95, color="0.5", linewidth=0.7)
    axes[0][1].set_xlim(left=0)
    size_panel(config, axes[1][0], sizes)
    axes[1][1].set_axis_off()
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles[::-1], names[::-1], loc="outside upper center", fontsize=SMALL - 1, frameon=False)
    return figure


def size_panel(config: Config, ax: Axes, sizes: Mapping[str, float]) -> None:
    """Tables in which the best of unrelated metrics passes for one that follows the gap."""
    for y, size in enumerate(sizes.values()):
        error = 2 * (size * (1 - size) / config.p_tables) ** 0.5
        ax.errorbar([100 * size], [y], xerr=[100 * error], color="black", marker="o", ms=3.5, lw=0.8)
    ax.axvline(100 * LEVEL, color="0.5", linewidth=0.7)
    first, *others = sizes
    style(ax, [f"corrected p:  {first}", *others], f"p at most {LEVEL:g} (% of tables)")
    ax.set_xlim(left=0)


def style(ax: Axes, labels: list[str], what: str) -> None:
    """Rows from top to bottom, those of one truth apart from the next."""
    ax.set_xlabel(what, fontsize=SMALL)
    ax.set_yticks(range(len(labels)), labels, fontsize=SMALL - 1)
    ax.tick_params(axis="x", labelsize=SMALL - 0.5)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(labels) - 0.4, -0.6)


if __name__ == "__main__":
    command(main, Config)
