"""A network that the bundled trainer makes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from landscape.data import Lazy, load
from landscape.problem import Problem
from landscape.storage.manifest import read_manifest
from landscape.study.network_record import Splits, load_run, splits
from landscape.training import TrainConfig, train
from landscape.training.trainer.checkpoint import NAME
from landscape.training.trainer.device import curvature_device, move

OUTCOMES = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


@dataclass(frozen=True)
class Trained:
    """A network of a grid."""

    run: TrainConfig
    chosen: Mapping[str, Any] = field(default_factory=dict)  # hyper-parameter column to its value

    @property
    def folder(self) -> Path:
        """Of the run; all that is found of the network lies beside its checkpoint."""
        return Path(self.run.folder)

    def prepare(self) -> None:
        """Train it, or go on."""
        train(replace(self.run, progress=False))

    def problem(self, samples: int | None, batch_size: int) -> Problem:
        """Its training loss, on the labels it was trained on; on the device of training, if one was named."""
        problem, device = load_run(self.folder, samples, batch_size), self.run.device
        return problem if device in ("auto", "mps") else move(problem, curvature_device(device))

    def splits(self, batch_size: int) -> Splits:
        """Training and test data."""
        return splits(self.folder, batch_size)

    def columns(self) -> dict[str, Any]:
        """What it was trained with, and its losses."""
        metadata = read_manifest(self.folder / NAME)
        results = {key: metadata[key] for key in OUTCOMES}
        trained = {"rule": self.run.optimizer, "label_noise": self.run.label_noise, "seed": self.run.seed}
        run = self.run
        samples = _size_of_test_set(run.dataset, run.data_path, json.dumps(run.data_settings), run.lazy)
        return {**trained, **self.chosen, **results, "test_samples": samples}

    def settings(self) -> dict[str, Any]:
        """The training run's."""
        return self.run.settings()


@cache
def _size_of_test_set(dataset: str, path: str, settings: str, lazily: bool) -> int:
    data = load(dataset, path, settings=json.loads(settings), lazily=lazily)
    if isinstance(data, Lazy):
        return data.test.count or sum(len(y) for _, y in data.batches("test", 64))
    return len(data.test_targets)
