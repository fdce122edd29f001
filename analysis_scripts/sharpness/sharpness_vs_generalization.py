"""Which sharpness measure follows the generalisation gap? Networks on digits with noisy labels, all metrics, one page.

A full grid of training rule, learning rate, batch size, weight decay, width, label noise and seed. Every metric has its
setting fixed here, before a network is trained; where variants compete (Rényi's order, the ball of the worst case) one
is chosen on half of the settings and judged on the other half. A killed run goes on where it stopped.

Source of the question and of the criteria: Jiang et al. 2020, arXiv:1912.02178; Dziugaite et al. 2020,
arXiv:2010.11924.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import click

from analysis_scripts._shared.frame import command, publish
from landscape.metrics import METRICS
from landscape.report import report_study
from landscape.report.evidence import gather
from landscape.study import Correlation
from landscape.study.network_record import METRICS_FILE, Analysis
from landscape.study.study_runner import StudyConfig, broken, grid, run_study

RULES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "sam": {"rho": 0.1},
    "asam": {"rho": 0.5},
    "fisher_sam": {"rho": 0.1},
    "gsam": {"rho": 0.1, "alpha": 0.4},
}
FAMILIES = {"Rényi order": "renyi", "ball of the worst case": "worst_case_gap", "noise of the average": "average_gap"}
NOT_HERE = ("geodesic",)  # is about attention, which these networks do not have
PUBLISHED = {"renyi": 0.77, "trace": -0.05}  # ResNet-18 on CIFAR-10, Rényi's best layer; unconfirmed


@dataclass(frozen=True)
class Config:
    """The grid and what is computed; every number of the page follows from it."""

    rules: tuple[str, ...] = tuple(RULES)
    lr: tuple[float, ...] = (0.05, 0.2)
    batch_size: tuple[int, ...] = (50, 200)
    weight_decay: tuple[float, ...] = (0.0, 1e-3)
    hidden: tuple[tuple[int, ...], ...] = ((32, 32), (64, 64))
    label_noise: tuple[float, ...] = (0.1, 0.3)
    seed: tuple[int, ...] = (0, 1)
    epochs: int = 100
    samples: int = 1200  # training images of the metrics: all
    metrics: tuple[str, ...] = tuple(name for name in METRICS if name not in NOT_HERE)
    workers: int = 2
    runs: str = "runs/sharpness_vs_generalization"
    folder: str = "figures/sharpness_vs_generalization"


def study(config: Config) -> StudyConfig:
    """The study of the grid."""
    axes: dict[str, Any] = {
        "optimizer": config.rules,
        "lr": config.lr,
        "batch_size": config.batch_size,
        "weight_decay": config.weight_decay,
        "model_settings.hidden": config.hidden,
        "label_noise": config.label_noise,
        "seed": config.seed,
    }
    base = {"model": "mlp", "epochs": config.epochs}
    networks = grid(config.runs, base, axes, {rule: {"rule_settings": own} for rule, own in RULES.items()})
    analysis = Analysis(config.metrics, samples=config.samples, probes=0, line_points=0, plane_points=0)
    return StudyConfig(networks, analysis, config.workers, families(config.metrics))


def families(metrics: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Metrics that are variants of one another, by their names; a variant without others is none."""
    found = {
        family: tuple(name for name in metrics if name == start or name.startswith(f"{start}_"))
        for family, start in FAMILIES.items()
    }
    return {family: variants for family, variants in found.items() if len(variants) > 1}


def minutes_left(whole: StudyConfig) -> float:
    """Time one network that is still to do, which is kept, and take the others for as long."""
    waiting = {name: own for name, own in whole.members.items() if not (Path(own.folder) / METRICS_FILE).exists()}
    if not waiting:
        return 0.0
    name, network = next(iter(waiting.items()))
    began = perf_counter()
    run_study(replace(whole, members={name: network}, workers=1), progress=False)
    return (perf_counter() - began) * (len(waiting) - 1) / whole.workers / 60


def verdict(correlations: Mapping[str, Correlation]) -> str:
    """One sentence on what agrees with what was published, and what does not."""
    known = {name: correlations[name] for name in PUBLISHED if name in correlations}
    parts = [f"{name} {found.tau:+.2f} against {PUBLISHED[name]:+.2f}" for name, found in known.items()]
    worst = [found for name, found in correlations.items() if name.startswith(FAMILIES["ball of the worst case"])]
    rising = sum(found.low > 0 and found.p_corrected < 0.05 for found in worst)
    falling = sum(found.high < 0 and found.p_corrected < 0.05 for found in worst)
    return (
        f"Jiang et al. find that sharpness in a ball rises with the gap: here {rising} of {len(worst)} such measures "
        f"do beyond doubt and {falling} fall; Kendall's tau with the gap here and as published for another network "
        f"(ResNet-18 on CIFAR-10, Rényi's best layer, unconfirmed): {', '.join(parts) or 'not computed'}."
    )


def main(config: Config) -> Path:
    """Train, analyse, and write the page; returns it."""
    whole = study(config)
    click.echo(f"{len(whole.members)} networks on {config.workers} processes, {len(config.metrics)} metrics each")
    click.echo(f"about {minutes_left(whole):.0f} minutes")
    began = perf_counter()
    run_study(whole, progress=None)
    out = Path(config.folder)
    page = report_study(whole, out, "Which sharpness measure follows the generalisation gap?")
    sentence = verdict(gather(whole).correlations)
    publish(config, "verdict", {"verdict": sentence, "failed": broken(whole)})
    click.echo(f"{sentence}\n{perf_counter() - began:.0f} s; open {page}")
    return page


if __name__ == "__main__":
    command(main, Config)
