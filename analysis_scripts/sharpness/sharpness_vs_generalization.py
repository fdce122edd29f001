"""Which sharpness measure follows the generalisation gap? Networks on digits with noisy labels, all metrics, one page.

A full grid of training rule, learning rate, batch size, weight decay, width, label noise and seed. Every metric has its
setting fixed here, before a network is trained; where variants compete (Rényi's order, the ball of the worst case) one
is chosen on half of the settings and judged on the other half. A killed run goes on where it stopped.

Source of the question and of the criteria: Jiang et al. 2020, arXiv:1912.02178; Dziugaite et al. 2020,
arXiv:2010.11924.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis_scripts._shared.frame import command
from analysis_scripts.sharpness.gap_study import METRICS_OF_ALL, families, measured_by, members, report
from landscape.study.study_runner import StudyConfig

TITLE = "Which sharpness measure follows the generalisation gap after equal epochs?"


@dataclass(frozen=True)
class Config:
    """The grid and what is computed; every number of the page follows from it."""

    rules: tuple[str, ...] = ("sgd", "sam", "asam")
    lr: tuple[float, ...] = (0.04, 0.1)
    batch_size: tuple[int, ...] = (20, 50)
    weight_decay: tuple[float, ...] = (0.0, 1e-3)
    hidden: tuple[tuple[int, ...], ...] = ((32, 32),)
    label_noise: tuple[float, ...] = (0.1, 0.3)
    seed: tuple[int, ...] = (0,)
    epochs: int = 40
    samples: int = 600  # training images of the metrics: all
    metrics: tuple[str, ...] = METRICS_OF_ALL
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
    networks = members(config.runs, {"model": "mlp", "epochs": config.epochs}, axes)
    return StudyConfig(networks, measured_by(config.metrics, config.samples), config.workers, families(config.metrics))


def main(config: Config) -> Path:
    """Train, measure, and write the page; returns it."""
    return report(config, study(config), TITLE)


if __name__ == "__main__":
    command(main, Config)
