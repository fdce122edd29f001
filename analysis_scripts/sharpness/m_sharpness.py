"""Does m matter? SAM with one perturbation for every m samples of a batch, and m-sharpness as a predictor.

Left: test error over the radius for several m, two standard errors over the seeds. Right: how well the m-sharpness of
all these networks, measured at one radius on the same images for several m, orders their generalisation gaps: Kendall's
tau with a 95 % interval that resamples whole settings, whose seeds go together. Published: smaller m
generalises and predicts better. Source: Foret et al. 2021, arXiv:2010.01412, section 4.1 and figure 3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

import landscape as ls
from analysis_scripts._shared.claims import Claim, points
from analysis_scripts._shared.frame import command, publish
from analysis_scripts._shared.many_networks import measured, none_failed, training
from analysis_scripts._shared.over_seeds import at_best_of_others, difference, verdict
from landscape.plots.style import BLUE, OTHERS, legend_above
from landscape.storage.results import read_json
from landscape.study.network_record import load_run
from landscape.study.statistics import comparison


@dataclass(frozen=True)
class Config:
    """What is trained and measured; every number of the figure follows from it."""

    trained: Sequence[int] = (4, 16, 64)  # m of the training; 64 is the batch
    radii: Sequence[float] = (0.0125, 0.025, 0.05, 0.1, 0.2)  # at .4 the smallest m learns nothing
    seeds: Sequence[int] = (0, 1, 2)
    batch_size: int = 64
    setting: dict[str, Any] = field(
        default_factory=lambda: {
            "model": "mlp",
            "model_settings": {"hidden": (64, 64)},
            "label_noise": 0.2,
            "epochs": 30,
        }
    )
    measured: Sequence[int] = (1, 4, 16, 64, 256)  # m of the metric
    rho: float = 0.05  # of the metric, for all networks
    samples: int = 256
    workers: int = 2
    runs: str = "runs/m_sharpness"
    folder: str = "figures/m_sharpness"


def main(config: Config) -> dict[str, Any]:
    """Train and measure."""
    networks = {
        (m, rho, seed): training(
            config, f"m{m}-rho{rho}-seed{seed}", "sam", seed, rule_settings={"rho": rho}, m_sharpness=m
        )
        for m, rho, seed in product(config.trained, config.radii, config.seeds)
    }
    measure = partial(losses_and_sharpness, samples=config.samples, sizes=list(config.measured), rho=config.rho)
    kept = none_failed(measured(networks, measure, config.workers))
    rows = [{"m": m, "rho": rho, "seed": seed, **own} for (m, rho, seed), own in kept.items()]
    taus = {m: correlation(rows, m) for m in config.measured}
    found = {"sentence": sentence(rows, taus, config), "tau": {str(m): asdict(tau) for m, tau in taus.items()}}
    figure = partial(draw, rows, taus, config)
    return publish(config, "m_sharpness", found | {"rows": rows}, figure, claims=claims(rows, taus, config))


def losses_and_sharpness(run: Path, *, samples: int, sizes: Sequence[int], rho: float) -> dict[str, Any]:
    """One network's losses, and its m-sharpness for every m."""
    losses, problem = read_json(run / "model.json"), load_run(run, samples)
    return {
        **{key: losses[key] for key in ("train_loss", "train_accuracy", "test_loss", "test_accuracy")},
        "generalization_gap": losses["test_loss"] - losses["train_loss"],
        "m_sharpness": {str(m): float(ls.metrics.m_sharpness(problem, m=m, rho=rho).value) for m in sizes},
    }


def correlation(rows: Sequence[Mapping[str, Any]], m: int) -> ls.Correlation:
    """Of the m-sharpness with the gap."""
    table = [{**row, "metric": row["m_sharpness"][str(m)]} for row in rows]
    return ls.correlate(table, ["metric"], axes=["m", "rho", "seed"], cluster=["m", "rho"])["metric"]


def sentence(rows: Sequence[Mapping[str, Any]], taus: Mapping[int, ls.Correlation], config: Config) -> str:
    """The answer in numbers."""
    best = {m: min((mean_error(rows, m, rho)[0], rho) for rho in config.radii) for m in config.trained}
    errors = ", ".join(f"m = {m}: {100 * error:.1f} % at radius {rho:g}" for m, (error, rho) in best.items())
    predicted = ", ".join(f"m = {m}: {tau.tau:+.2f} [{tau.low:+.2f}, {tau.high:+.2f}]" for m, tau in taus.items())
    return (
        "Bars: two standard errors over seeds (left), 95 % over settings (right). "
        f"Lowest mean test error by SAM with {errors}. Kendall's tau of m-sharpness with the gap: {predicted}."
    )


def claims(rows: Sequence[Mapping[str, Any]], taus: Mapping[int, ls.Correlation], config: Config) -> list[Claim]:
    """The smallest m against the largest and against the batch, as predictor; against the batch in training."""
    table = [{**row, **{f"m{m}": own for m, own in row["m_sharpness"].items()}} for row in rows]
    least, found = min(taus), []
    for m, name in {max(taus): "", config.batch_size: ", the batch"}.items():
        if m in taus:
            low, high = comparison.difference(table, f"m{least}", f"m{m}", cluster=["m", "rho"])
            apart = (abs(taus[least].tau) - abs(taus[m].tau), low, high)
            text = f"τ with the gap {taus[least].tau:.2f} and {taus[m].tau:.2f}, difference {points(apart, '', 2)}"
            claim = f"m-sharpness predicts better at m = {least} than at m = {m}{name}"
            found.append(Claim("Foret et al. 2021, figure 3 (right)", claim, text, verdict(apart)))
    one, other = min(config.trained), max(config.trained)
    less = [100 * end for end in difference(errors_at_best(rows, one, config), errors_at_best(rows, other, config))]
    claim = f"SAM with m = {one} errs less than with m = {other}"
    text = f"{points(less)}, each at the radius that is best for the other seeds"
    return [*found, Claim("Foret et al. 2021, figure 3 (middle)", claim, text, verdict(less, -1))]


def errors_at_best(rows: Sequence[Mapping[str, Any]], m: int, config: Config) -> list[float]:
    """Test errors of the networks trained with m, a seed each."""
    own = {(row["rho"], row["seed"]): 1 - row["test_accuracy"] for row in rows if row["m"] == m}
    return at_best_of_others({rho: [own[rho, seed] for seed in config.seeds] for rho in config.radii})


def mean_error(rows: Sequence[Mapping[str, Any]], m: int, rho: float) -> tuple[float, float]:
    """Mean test error over the seeds and its standard error."""
    errors = torch.tensor([1 - row["test_accuracy"] for row in rows if (row["m"], row["rho"]) == (m, rho)])
    return float(errors.mean()), float(errors.std() / len(errors) ** 0.5) if len(errors) > 1 else 0.0


def draw(rows: Sequence[Mapping[str, Any]], taus: Mapping[int, ls.Correlation], config: Config) -> Figure:
    """Test error over the radius with two standard errors over the seeds, a line an m; tau over m."""
    figure = Figure(figsize=(7.2, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (color, marker), m in zip(OTHERS, config.trained, strict=False):
        found = [mean_error(rows, m, rho) for rho in config.radii]
        label = f"m = {m}" + (" (the batch)" if m == config.batch_size else "")
        means, spans = [100 * mean for mean, _ in found], [200 * stderr for _, stderr in found]
        look: dict[str, Any] = {"fmt": f"{marker}-", "color": color, "ms": 4, "lw": 1.0, "capsize": 2}
        left.errorbar(config.radii, means, yerr=spans, label=label, **look)
    left.set(xlabel="radius ρ of SAM", ylabel="test error, %", xscale="log")
    left.set_xticks(list(config.radii), [f"{rho:g}" for rho in config.radii])
    left.minorticks_off()
    legend_above(left)
    values = [tau.tau for tau in taus.values()]
    ends = [[tau.tau - tau.low for tau in taus.values()], [tau.high - tau.tau for tau in taus.values()]]
    right.errorbar(list(taus), values, yerr=ends, fmt="o-", color=BLUE, ms=4, lw=1.0, capsize=2)
    right.axhline(0.0, color="0.7", lw=0.7)
    right.set_xscale("log", base=2)
    right.set_xticks(list(taus), [str(m) for m in taus])
    right.set(xlabel="m of the metric", ylabel="Kendall's τ with the\ngeneralisation gap", ylim=(-1, 1))
    return figure


if __name__ == "__main__":
    command(main, Config)
