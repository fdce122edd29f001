"""What a study keeps of each network, beside its checkpoint in the run folder: metrics, density and slices.

Every file is written in one rename and kept: a study that was killed goes on with what is missing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, field
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, Protocol, runtime_checkable

import torch
from pydantic import Field
from torch.nn import functional as F

from landscape.checks import integer_in, require
from landscape.curvature import hessian
from landscape.data import Images, Lazy, load
from landscape.linalg import spectral_density
from landscape.metrics.analyze import analyze
from landscape.metrics.metric import priced
from landscape.metrics.registry import METRICS
from landscape.metrics.shared_computation import shared_with, stands_on
from landscape.problem import Problem
from landscape.slices import random_directions, slice_1d, slice_2d
from landscape.storage.manifest import read_checked, read_manifest, read_or_none, whole, write_checked
from landscape.storage.results import Slice1D, Slice2D, SliceBand, SpectralDensity, versions
from landscape.storage.settings import as_json, differing
from landscape.storage.settings_record import Count, Positive, Size, settings_record
from landscape.training import load_checkpoint
from landscape.training.trainer.bootstrap import relabel
from landscape.training.trainer.network import split

METRICS_FILE, DENSITY, LINE, PLANE = "metrics.json", "density.npz", "slice_1d.npz", "slice_2d.npz"
ROBUSTNESS_FILE = "robustness.json"
KEPT = "spectral density that is kept"  # shared work: Rényi sharpness is read off it
SLICED = ("batch_size", "line_points", "plane_points", "reach", "robustness")  # of Analysis, no part of the metrics

Splits = Mapping[str, Iterable[tuple[torch.Tensor, torch.Tensor]]]


@runtime_checkable
class NetworkRecord(Protocol):
    """A network of a study: the bundled trainer makes it, or the user's own code."""

    @property
    def folder(self) -> str | Path:
        """Where what is found of it is kept."""

    @property
    def chosen(self) -> Mapping[str, Any]:
        """Hyper-parameter column to its value."""

    def prepare(self) -> None:
        """Train it, or see that it is there."""

    def problem(self, samples: int | None, batch_size: int) -> Problem:
        """Its training loss."""

    def splits(self, batch_size: int) -> Splits | None:
        """The data of its slices; None leaves them out."""

    def columns(self) -> dict[str, Any]:
        """What the table says of it beside metrics: `chosen`, train_loss, test_loss, ..."""

    def settings(self) -> dict[str, Any]:
        """All that decides its numbers, as JSON holds it."""


@settings_record
class Analysis:
    """What is computed of a network, on its own training loss (with the labels it was trained on)."""

    metrics: Annotated[Sequence[str], Field(min_length=1)] | None = None
    """Names from METRICS; None for all."""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Metric to arguments that replace its defaults."""
    samples: Count | None = None
    """Training images the metrics use, the first ones; None for all."""
    batch_size: Count = 600
    """Images a batch; changes no number but the speed."""
    probes: Size = 4
    """Probes of the spectral density, which Rényi sharpness shares; 0 leaves it out."""
    steps: Count = 32
    """Lanczos steps of each probe."""
    line_points: Size = 51
    """Points of the 1D slice; 0 leaves it out."""
    plane_points: Size = 21
    """Points of each axis of the 2D slice; 0 leaves it out."""
    reach: Positive = 1.0
    """The slices run from −reach to reach, in units of filter norms."""
    seed: int = 0
    """Seed of directions and probes, the same for all networks."""
    robustness: Size = 0
    """Test images on which errors under FGSM, PGD-10 and corruptions are taken, the first ones; 0 leaves them out."""


def load_run(folder: str | Path, samples: int | None = None, batch_size: int = 600) -> Problem:
    """The training loss of a bundled checkpoint as a function of its weights.

    Args:
        folder: of a run of `train`.
        samples: the first so many training images; default all.
        batch_size: images a batch.
    Raises:
        ValueError: if there is no readable checkpoint, or samples is below 1.
    """
    if samples is not None:
        integer_in("samples", samples, 1)
    model, metadata = load_checkpoint(folder)
    data = run_data(folder, metadata)
    return Problem(model, F.cross_entropy, data.batches("train", batch_size, samples))


def splits(folder: str | Path, batch_size: int = 600) -> Splits:
    """Training and test data of a bundled checkpoint, in batches; read anew each time where the run was lazy."""
    data = run_data(folder, load_checkpoint(folder)[1])
    return {of: data.batches(of, batch_size) for of in ("train", "test")}


def prepare(network: NetworkRecord) -> None:
    """Train it, or see that it is there. Raises ValueError if its losses are not finite."""
    network.prepare()
    found = network.columns()
    for key in ("train_loss", "test_loss"):
        require(isfinite(found[key]), f"{key} must be finite, got {found[key]}")


def measure(network: NetworkRecord, analysis: Analysis) -> None:
    """Density and metrics of one network into its folder."""
    folder, asked = Path(network.folder), _asked(network, analysis)
    done = folder / METRICS_FILE
    kept = read_or_none(done)
    if kept and not differing(kept.get("asked", {}), asked) and (not analysis.probes or whole(folder / DENSITY)):
        return
    began = perf_counter()
    problem = network.problem(analysis.samples, analysis.batch_size)
    generator = torch.Generator().manual_seed(analysis.seed)
    settings = {name: dict(values) for name, values in analysis.settings.items()}
    shared: dict[str, float] = {}
    if analysis.probes:
        how: dict[str, Any] = {
            "probes": analysis.probes,
            "steps": analysis.steps,
            "generator": generator,
            "progress": False,
        }
        density, spent = priced(problem, lambda: spectral_density(hessian(problem), check=0, **how))
        density.save(folder / DENSITY, seed=analysis.seed)
        shared[KEPT] = spent.gradient_times
        if analysis.metrics is None or "renyi" in analysis.metrics:
            settings["renyi"] = {"density": density, **settings.get("renyi", {})}
    estimates = analyze(problem, analysis.metrics, settings=settings, generator=generator, progress=False)
    found = {
        name: {
            "value": float(estimate.value),
            "stderr": float(estimate.stderr),
            "matvecs": estimate.matvecs,
            "gradient_times": estimate.gradient_times,
            "details": dict(estimate.details),
        }
        for name, estimate in estimates.items()
    }
    shared |= {what: cost.gradient_times for what, cost in estimates.shared.items()}
    facts = {"parameters": problem.size, "seconds": perf_counter() - began, "versions": versions()}
    content = {"asked": asked, "estimates": found, "shared": shared, "left_out": estimates.left_out}
    write_checked(done, {**content, **facts})


def shared_cost(metric: str, kept: Mapping[str, Any]) -> float:
    """Gradient-times of the shared work that a metric stands on, of what `measure` has kept of one network."""
    settings, costs = kept["asked"]["settings"], {**kept["shared"]}
    if metric == "renyi" and KEPT in costs and "density" not in settings.get(metric, {}):
        return float(costs[KEPT])
    costs |= {name: own["gradient_times"] for name, own in kept["estimates"].items()}

    def needs(name: str) -> list[str]:
        return shared_with(METRICS[name], settings.get(name, {}), settings)

    return float(sum(costs.get(what, 0.0) for what in stands_on(needs(metric), needs)))


def cut(network: NetworkRecord, analysis: Analysis) -> None:
    """1D and 2D slices of one network into its folder, on all its splits, along the same two directions."""
    folder = Path(network.folder)
    kinds = {"line": analysis.line_points, "plane": analysis.plane_points}
    files = {"line": folder / LINE, "plane": folder / PLANE}
    missing = [kind for kind, points in kinds.items() if points and not _has(files[kind], analysis, points)]
    data = network.splits(analysis.batch_size) if missing else None
    if data is None:
        return
    problem = network.problem(None, analysis.batch_size)
    d1, d2 = random_directions(problem, generator=torch.Generator().manual_seed(analysis.seed))
    for kind in missing:
        span = (-analysis.reach, analysis.reach, kinds[kind])
        if kind == "line":
            found: Slice1D | SliceBand | Slice2D = slice_1d(problem, d1, span, data, progress=False)
        else:
            found = slice_2d(problem, d1, d2, span, span, data, progress=False)
        found.save(files[kind], **_cut_with(analysis, kinds[kind]))


def row(name: str, network: NetworkRecord) -> dict[str, Any]:
    """The network's line in the table: what it was trained with, its losses, and every metric with its stderr.

    Of a metric that iterates until it has converged there is also whether it has, True or False.
    """
    found = network.columns()
    gaps = {}
    for labels in ("", "noisy_"):  # of the test set
        if f"{labels}test_loss" in found:
            gaps[f"{labels}generalization_gap"] = found[f"{labels}test_loss"] - found["train_loss"]
        if {"train_accuracy", f"{labels}test_accuracy"} <= found.keys():
            gaps[f"{labels}accuracy_gap"] = found["train_accuracy"] - found[f"{labels}test_accuracy"]
    measured: dict[str, float | bool] = {}
    for metric, estimate in read_checked(Path(network.folder) / METRICS_FILE)["estimates"].items():
        measured |= {metric: estimate["value"], f"{metric}_stderr": estimate["stderr"]}
        if "converged" in estimate["details"]:
            measured[f"{metric}_converged"] = bool(estimate["details"]["converged"])
    robust = read_or_none(Path(network.folder) / ROBUSTNESS_FILE) or {"columns": {}}
    return {"name": name, **found, **gaps, **robust["columns"], **measured}


def load_density(folder: Path) -> SpectralDensity:
    """The Hessian's spectral density that `measure` kept."""
    return SpectralDensity.load(folder / DENSITY)


def _asked(network: NetworkRecord, analysis: Analysis) -> dict[str, Any]:
    """All that decides the metrics, as JSON holds it."""
    measured = {key: value for key, value in asdict(analysis).items() if key not in SLICED}
    return as_json({**measured, "network": network.settings()})


def _has(path: Path, analysis: Analysis, points: int) -> bool:
    """Whether the slice is there and was made with these settings."""
    asked = _cut_with(analysis, points)
    if not whole(path):
        return False
    found = read_manifest(path)
    return not differing({key: found.get(key) for key in asked}, asked)


def _cut_with(analysis: Analysis, points: int) -> dict[str, Any]:
    return {"seed": analysis.seed, "reach": analysis.reach, "points": points}


def run_data(folder: str | Path, metadata: Mapping[str, Any]) -> Images | Lazy:
    """The data set with the labels that the network was trained on, without what was held out."""
    config, teacher = metadata["config"], metadata.get("teacher")
    path = config.get("data_path", "")  # older checkpoints are all of embedded data
    noise = {"label_noise": config["label_noise"], "seed": config["seed"]}
    lazily = config.get("lazy", False)
    data = load(config["dataset"], path, settings=config.get("data_settings"), lazily=lazily, **noise)
    if isinstance(data, Lazy):
        data = data.read_by(0, steps=config.get("steps_per_epoch", 0))
    elif teacher:
        data = relabel(data, Path(folder) / teacher)
    return split(data, config.get("validation_share", 0.0), config["seed"])[0]
