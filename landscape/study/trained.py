"""A network that the bundled trainer makes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from landscape.checks import require
from landscape.data import Lazy, load
from landscape.problem import Problem
from landscape.storage.manifest import read_manifest, read_or_none, write_checked
from landscape.study.network_record import Splits, load_run, splits
from landscape.study.noisy_labels import noisy_outcome
from landscape.training import TrainConfig, load_checkpoint, train
from landscape.training.trainer.checkpoint import NAME
from landscape.training.trainer.device import curvature_device, move

NOISY = "noisy_labels.json"
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
        """Train it, or go on, and test it on labels as noisy as those trained on.

        Raises:
            ValueError: if its training loss has not come down to `stop_at_loss`, at which networks are compared.
        """
        train(replace(self.run, progress=False))
        found, run = read_manifest(self.folder / NAME), self.run
        require(
            not run.stop_at_loss or found["train_loss"] <= run.stop_at_loss,
            f"the training loss must come down to {run.stop_at_loss:g}, got {found['train_loss']:.3g} at epoch "
            f"{found['epoch']}; raise epochs, or change lr",
        )
        asked = {"label_noise": run.label_noise, "test_loss": found["test_loss"]}
        if self._noisy and (read_or_none(self.folder / NOISY) or {}).get("asked") != asked:
            outcome = noisy_outcome(load_checkpoint(self.folder)[0], self.splits(512)["test"], run.label_noise)
            write_checked(self.folder / NOISY, {**outcome, "asked": asked})

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
        return {**trained, **self.chosen, **results, **self._with_noise(results), "test_samples": samples}

    def _with_noise(self, clean: Mapping[str, float]) -> dict[str, float]:
        """What test labels as noisy as those trained on would give, if it is known."""
        names = {f"noisy_{key}": key for key in OUTCOMES if key.startswith("test")}
        if not self._noisy:
            return {name: clean[key] for name, key in names.items()}
        kept = read_or_none(self.folder / NOISY)
        return {name: kept[name] for name in names} if kept else {}

    @property
    def _noisy(self) -> bool:
        return bool(self.run.label_noise and not self.run.bootstrap_rounds)  # whose labels are predictions

    def settings(self) -> dict[str, Any]:
        """The training run's."""
        return self.run.settings()


@cache
def _size_of_test_set(dataset: str, path: str, settings: str, lazily: bool) -> int:
    data = load(dataset, path, settings=json.loads(settings), lazily=lazily)
    if isinstance(data, Lazy):
        return data.test.count or sum(len(y) for _, y in data.batches("test", 64))
    return len(data.test_targets)
