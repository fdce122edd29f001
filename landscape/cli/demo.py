"""`landscape demo`: six training rules on digits with noisy labels, every checkpoint analysed.

Does any sharpness measure follow the generalisation gap? Twelve small residual networks without normalisation, trained
by SGD, SAM, ASAM, Fisher SAM, GSAM and Eigen-SAM on 1,200 images with 20 % wrong labels; test labels are clean.
"""

from pathlib import Path

import click

from landscape.cli.source import FOLDER
from landscape.cli.study import DEVICE, make_study, relative_to
from landscape.study.network_record import Analysis
from landscape.study.study_runner import StudyConfig, grid
from landscape.training.trainer.device import curvature_device

TITLE = "Does sharpness follow the generalisation gap?"
RULES = {
    "sgd": {},
    "sam": {"rule_settings": {"rho": 0.2}},
    "asam": {"rule_settings": {"rho": 1.0}},
    "fisher_sam": {"rule_settings": {"rho": 0.2}},
    "gsam": {"rule_settings": {"rho": 0.2, "alpha": 0.4}},
    "eigen_sam": {"rule_settings": {"rho": 0.2, "alpha": 0.2, "period": 50}},
}
METRICS = (
    "lambda_max",
    "lambda_max_over_lambda_5",
    "trace",
    "renyi",
    "adam_sharpness",
    "surrogate_gap",
    "worst_case_gap",
    "worst_case_gap_adaptive",
    "worst_case_gap_fisher",
    "worst_case_gap_fisher_diagonal",
    "m_sharpness",
    "average_gap",
)
SETTINGS = {  # budgets that keep the demonstration within minutes; every ± on the page says what they cost
    "trace": {"matvecs": 24},
    "adam_sharpness": {"matvecs": 16},
    "worst_case_gap_fisher": {"max_matvecs": 12},
    "m_sharpness": {"m": 50},
}


def demo_study(runs: Path, *, workers: int = 2, device: str = "auto") -> StudyConfig:
    """The demonstration as a study in the folder `runs`."""
    base = {
        "device": device,
        "label_noise": 0.2,
        "model": "resnet",
        "model_settings": {"width": 8},
        "lr": 0.1,
        "epochs": 50,
    }
    networks = grid(runs, base, {"optimizer": RULES, "seed": (0, 1)}, RULES)
    return StudyConfig(networks, Analysis(METRICS, SETTINGS, steps=20, plane_points=15), workers=workers)


@click.command("demo")
@click.option("--runs", type=FOLDER, default=Path("runs/demo"), show_default=True)
@click.option("--out", type=FOLDER, default=Path("figures/demo"), show_default=True)
@click.option("--workers", type=int, default=2, show_default=True, help="Processes of one thread each.")
@DEVICE
def demo_command(runs: Path, out: Path, workers: int, device: str) -> None:
    """Six training rules on noisy digits: train, analyse, and a page that sets sharpness against the gap."""
    curvature_device(device)
    source = relative_to(out, config=None, runs=runs, settings=None)
    make_study(demo_study(runs, workers=workers, device=device), out, TITLE, made_from=source)
