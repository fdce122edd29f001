"""Which sharpness measure follows the generalisation gap of small transformers trained to one training loss?

ViTs of two blocks on 600 digits, by Adam and by SAM around it; else as `equal_loss`. Geodesic sharpness, which is about
attention, is among the metrics.

Source of the question: da Silva et al. 2025, arXiv:2505.05409.
"""

from dataclasses import dataclass
from pathlib import Path

from analysis_scripts._shared.frame import command
from analysis_scripts.sharpness.gap_study import STUDIED, families, measured_by, members, report
from landscape.study.study_runner import StudyConfig

TITLE = "Which sharpness measure follows the generalisation gap of small transformers at one training loss?"


@dataclass(frozen=True)
class Config:
    """The grid and what is computed; every number of the page follows from it."""

    rules: tuple[str, ...] = ("plain", "sam")
    loss: float = 0.1
    lr: tuple[float, ...] = (0.003, 0.01)
    dim: tuple[int, ...] = (16, 24, 32)
    label_noise: tuple[float, ...] = (0.1, 0.2)
    seed: tuple[int, ...] = (0,)
    batch_size: int = 50
    epochs: int = 60
    samples: int = 200
    metrics: tuple[str, ...] = STUDIED
    workers: int = 2
    runs: str = "runs/equal_loss_transformers"
    folder: str = "figures/equal_loss_transformers"


def study(config: Config) -> StudyConfig:
    """The study of the grid."""
    base = {
        "model": "vit",
        "model_settings": {"depth": 2, "heads": 2, "patch": 4},
        "base": "adam",
        "weight_decay": 0.0,
        "stop_at_loss": config.loss,
        "batch_size": config.batch_size,
        "epochs": config.epochs,
    }
    axes = {
        "optimizer": config.rules,
        "lr": config.lr,
        "model_settings.dim": config.dim,
        "label_noise": config.label_noise,
        "seed": config.seed,
    }
    networks = members(config.runs, base, axes)
    return StudyConfig(networks, measured_by(config.metrics, config.samples), config.workers, families(config.metrics))


def main(config: Config) -> Path:
    """Train, measure, and write the page; returns it."""
    return report(config, study(config), TITLE)


if __name__ == "__main__":
    command(main, Config)
