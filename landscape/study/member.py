"""What a study keeps of each network, beside its checkpoint in the run folder: metrics, density and slices.

Every file is written in one rename and kept: a study that was killed goes on with what is missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch.nn import functional as F

from landscape.analysis import analyze
from landscape.curvature import hessian
from landscape.data import Images, load
from landscape.linalg import spectral_density
from landscape.problem import Problem
from landscape.results import Slice1D, Slice2D, SliceBand, SpectralDensity, read_json, versions, write_json
from landscape.slices import random_directions, slice_1d, slice_2d
from landscape.training import load_checkpoint
from landscape.training.bootstrap import relabelled

METRICS_FILE, DENSITY, LINE, PLANE = "metrics.json", "density.npz", "slice_1d.npz", "slice_2d.npz"


@dataclass(frozen=True)
class Analysis:
    """What is computed of a network, on its own training loss (with the labels it was trained on).

    Attributes:
        metrics: names from `METRICS`.
        settings: metric to arguments that replace its defaults.
        samples: training images the metrics use, the first ones; None for all.
        batch_size: images a batch; changes no number but the speed.
        probes, steps: of the spectral density, which Rényi sharpness shares.
        line_points, plane_points: of the 1D slice and of each axis of the 2D slice; 0 leaves it out.
        reach: the slices run from −reach to reach, in units of filter norms.
        seed: of directions and probes, the same for all networks.
    """

    metrics: Sequence[str]
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    samples: int | None = None
    batch_size: int = 600
    probes: int = 4
    steps: int = 32
    line_points: int = 51
    plane_points: int = 21
    reach: float = 1.0
    seed: int = 0


def training_problem(folder: str | Path, samples: int | None = None, batch_size: int = 600) -> Problem:
    """The training loss of a bundled checkpoint as a function of its weights.

    Args:
        folder: of a run of `train`.
        samples: the first so many training images; default all.
        batch_size: images a batch.
    Raises:
        ValueError: if there is no readable checkpoint.
    """
    model, metadata = load_checkpoint(folder)
    data = _data(folder, metadata)
    return Problem(model, F.cross_entropy, _batches(data.train_inputs, data.train_targets, samples, batch_size))


def splits(folder: str | Path, batch_size: int = 600) -> dict[str, list[tuple[torch.Tensor, torch.Tensor]]]:
    """Training and test data of a bundled checkpoint, in batches."""
    data = _data(folder, load_checkpoint(folder)[1])
    return {
        "train": _batches(data.train_inputs, data.train_targets, None, batch_size),
        "test": _batches(data.test_inputs, data.test_targets, None, batch_size),
    }


def measure(folder: Path, analysis: Analysis) -> None:
    """Density and metrics of one network into its folder."""
    asked = {
        "metrics": list(analysis.metrics),
        "settings": {name: dict(values) for name, values in analysis.settings.items()},
        "samples": analysis.samples,
        "density": [analysis.probes, analysis.steps],
        "seed": analysis.seed,
    }
    done = folder / METRICS_FILE
    if done.exists() and read_json(done).get("asked") == asked:
        return
    began = perf_counter()
    problem = training_problem(folder, analysis.samples, analysis.batch_size)
    generator = torch.Generator().manual_seed(analysis.seed)
    density = spectral_density(
        hessian(problem), probes=analysis.probes, steps=analysis.steps, check=0, generator=generator
    )
    density.save(folder / DENSITY, seed=analysis.seed)
    settings = {name: dict(values) for name, values in analysis.settings.items()}
    if "renyi" in analysis.metrics:
        settings["renyi"] = {"density": density, **settings.get("renyi", {})}
    estimates = analyze(problem, analysis.metrics, settings=settings, generator=generator, progress=False)
    found = {
        name: {
            "value": float(estimate.value),
            "stderr": float(estimate.stderr),
            "matvecs": estimate.matvecs,
            "details": dict(estimate.details),
        }
        for name, estimate in estimates.items()
    }
    write_json(done, {"asked": asked, "estimates": found, "seconds": perf_counter() - began, "versions": versions()})


def cut(folder: Path, analysis: Analysis) -> None:
    """1D and 2D slices of one network into its folder, on train and test, along the same two directions."""
    kinds = {"line": analysis.line_points, "plane": analysis.plane_points}
    files = {"line": folder / LINE, "plane": folder / PLANE}
    missing = [kind for kind, points in kinds.items() if points and not _has(files[kind], analysis, points)]
    if not missing:
        return
    problem, data = training_problem(folder, None, analysis.batch_size), splits(folder, analysis.batch_size)
    d1, d2 = random_directions(problem, generator=torch.Generator().manual_seed(analysis.seed))
    for kind in missing:
        span = (-analysis.reach, analysis.reach, kinds[kind])
        if kind == "line":
            found: Slice1D | SliceBand | Slice2D = slice_1d(problem, d1, span, data, progress=False)
        else:
            found = slice_2d(problem, d1, d2, span, span, data, progress=False)
        found.save(files[kind], **_cut_with(analysis, kinds[kind]))


def row(name: str, folder: Path) -> dict[str, Any]:
    """The network's line in the table: what it was trained with, its losses, and every metric with its stderr."""
    metadata = read_json(folder / "model.json")
    config = metadata["config"]
    columns = {
        key: config[key] for key in ("dataset", "label_noise", "model", "lr", "batch_size", "weight_decay", "seed")
    }
    results = {key: metadata[key] for key in ("train_loss", "train_accuracy", "test_loss", "test_accuracy")}
    gaps = {
        "generalization_gap": results["test_loss"] - results["train_loss"],
        "accuracy_gap": results["train_accuracy"] - results["test_accuracy"],
    }
    measured: dict[str, float] = {}
    for metric, estimate in read_json(folder / METRICS_FILE)["estimates"].items():
        measured |= {metric: estimate["value"], f"{metric}_stderr": estimate["stderr"]}
    return {"name": name, "rule": config["optimizer"], **columns, **results, **gaps, **measured}


def load_density(folder: Path) -> SpectralDensity:
    """The Hessian's spectral density that `measure` kept."""
    return SpectralDensity.load(folder / DENSITY)


def _has(path: Path, analysis: Analysis, points: int) -> bool:
    """Whether the slice is there and was made with these settings."""
    asked = _cut_with(analysis, points)
    manifest = path.with_suffix(".json")
    return path.exists() and asked.items() <= read_json(manifest).items()


def _cut_with(analysis: Analysis, points: int) -> dict[str, Any]:
    return {"seed": analysis.seed, "reach": analysis.reach, "points": points}


def _data(folder: str | Path, metadata: Mapping[str, Any]) -> Images:
    """The data set with the labels that the network was trained on."""
    config, teacher = metadata["config"], metadata.get("teacher")
    path = config.get("data_path", "")  # older checkpoints are all of embedded data
    data = load(config["dataset"], path, label_noise=config["label_noise"], seed=config["seed"])
    return relabelled(data, Path(folder) / teacher) if teacher else data


def _batches(
    inputs: torch.Tensor, targets: torch.Tensor, samples: int | None, batch_size: int
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    x, y = inputs[:samples], targets[:samples]
    return list(zip(x.split(batch_size), y.split(batch_size), strict=True))
