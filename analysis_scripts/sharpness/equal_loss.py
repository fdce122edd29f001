"""Which sharpness measure follows the generalisation gap of networks trained to one training loss?

Perceptrons, and residual networks with and without batch norm, on 600 digits with 10 and 20 % wrong labels, each
stopped after the epoch at whose end the training loss is at most 0.1: what is left of the gap no training loss
explains. A network that does not come down to it is left out, and counted on the page. A killed run goes on where it
stopped.

Source of the design: Jiang et al. 2020, arXiv:1912.02178, and Dziugaite et al. 2020, arXiv:2010.11924, who train all
networks to a cross entropy of 0.01.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis_scripts._shared.frame import command
from analysis_scripts.sharpness.gap_study import METRICS_OF_ALL, families, measured_by, members, report
from landscape.study.study_runner import StudyConfig

TITLE = "Which sharpness measure follows the generalisation gap at one training loss?"


@dataclass(frozen=True)
class Config:
    """The grids and what is computed; every number of the page follows from it."""

    rules: tuple[str, ...] = ("sgd", "sam")
    loss: float = 0.1
    label_noise: tuple[float, ...] = (0.1, 0.2)
    hidden: tuple[tuple[int, ...], ...] = ((32, 32), (64, 64))  # of the perceptrons
    lr: tuple[float, ...] = (0.04, 0.1)
    batch_size: tuple[int, ...] = (20, 50)
    weight_decay: tuple[float, ...] = (0.0, 5e-4)
    seed: tuple[int, ...] = (0, 1, 2)
    epochs: int = 100
    norm: tuple[str, ...] = ("none", "batch")  # of the residual networks
    width: int = 8
    residual_lr: tuple[float, ...] = (0.03, 0.06)
    residual_batch_size: tuple[int, ...] = (25, 50)
    residual_seed: tuple[int, ...] = (0, 1)
    residual_epochs: int = 50
    samples: int = 200  # training images of the metrics, the same number for all networks
    metrics: tuple[str, ...] = METRICS_OF_ALL
    workers: int = 2
    runs: str = "runs/equal_loss"
    folder: str = "figures/equal_loss"


def study(config: Config) -> StudyConfig:
    """The study of both grids."""
    found: dict[str, Any] = {}
    for hidden in config.hidden:
        base = {"model": "mlp", "model_settings": {"hidden": hidden}, "epochs": config.epochs}
        name = "perceptron " + " ".join(map(str, hidden))
        found |= _grid(config, name, base, config.lr, config.batch_size, config.weight_decay, config.seed)
    for norm in config.norm:
        settings = {"width": config.width, "norm": norm}
        base = {"model": "resnet", "model_settings": settings, "epochs": config.residual_epochs}
        name = "residual" + (" batch norm" if norm == "batch" else "")
        own = config.residual_lr, config.residual_batch_size, (0.0,), config.residual_seed
        found |= _grid(config, name, base, *own)
    return StudyConfig(found, measured_by(config.metrics, config.samples), config.workers, families(config.metrics))


def _grid(config: Config, network: str, base: dict[str, Any], *axes: tuple[Any, ...]) -> dict[str, Any]:
    """One kind of network, by its name."""
    kind = network.replace(" ", "_")
    varied = dict(zip(("lr", "batch_size", "weight_decay", "seed"), axes, strict=True))
    own = {"optimizer": config.rules, "label_noise": config.label_noise, **varied}
    base = {"stop_at_loss": config.loss, **base}
    return {f"{kind}-{name}": run for name, run in members(f"{config.runs}/{kind}", base, own, network=network).items()}


def main(config: Config) -> Path:
    """Train, measure, and write the page; returns it."""
    return report(config, study(config), TITLE)


if __name__ == "__main__":
    command(main, Config)
