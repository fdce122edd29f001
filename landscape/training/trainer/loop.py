"""The bundled trainer: small image classifiers, SGD or a two-pass rule around it.

The same config gives the same weights, bit for bit on one CPU with one number of threads, whether or not the run was
interrupted: initialisation, label noise, the order of the images, augmentation and dropout all follow from the seed and
the epoch. A batch is augmented once a step: both passes of a rule see the same images and targets. The state is saved
after every epoch, and within one every minute, random state included: no more than a minute's work is done twice.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, cos, isnan, nan, pi
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from landscape.checks import first_line, require
from landscape.data import Augmentation, Images, load
from landscape.models import build
from landscape.problem import Problem
from landscape.side_effects import random_state_kept, training_flags_kept
from landscape.storage.atomic import locked_folder
from landscape.storage.results import versions
from landscape.training.sharpness_aware.step import SharpnessAware
from landscape.training.trainer.bootstrap import TEACHER, relabel
from landscape.training.trainer.checkpoint import save_checkpoint
from landscape.training.trainer.config import TrainConfig
from landscape.training.trainer.diagnostics import LastPerturbation, make_tracker
from landscape.training.trainer.evaluation import count_right, evaluate
from landscape.training.trainer.optimizer import make_optimizer
from landscape.training.trainer.run_folder import (
    DIAGNOSTICS,
    Progress,
    append_log,
    claim,
    finished,
    load_progress,
    read_log,
    save_progress,
)

SAVE_SECONDS = 60.0  # between saves within an epoch


def train(config: TrainConfig) -> Path:
    """Train a network, or go on with a run that was interrupted; a finished run returns at once.

    The log has the mean loss (label smoothing included) and accuracy over the epoch's batches as they were met, and the
    test set's; under mixup a prediction is right by its class's share in the target. The checkpoint's metadata has
    train_loss (cross entropy on the labels trained on, the noisy ones, and images that are not augmented),
    train_accuracy, test_loss and test_accuracy of the final network in eval mode over all data.

    Returns:
        The run folder, for `load_checkpoint`: config.json, log.jsonl, resume.pt, model.safetensors, model.json; where
        asked for, epoch-N (checkpoints, folders for `load_checkpoint`), teacher (a run folder) and diagnostics.jsonl.
    Raises:
        ValueError: if the folder cannot be written, holds another config or another process is in it, the network
            does not fit the data, or the loss becomes NaN or infinite.
        OSError: in one line, where the disk is full; the same call goes on.
    """
    folder = Path(config.folder)
    with locked_folder(folder):
        claim(folder, config.settings())
        if not finished(folder):
            with random_state_kept():
                _Run(config, folder).go()
    return folder


class _Run:
    """One training: its parts, and how far it is."""

    def __init__(self, config: TrainConfig, folder: Path) -> None:
        self.config, self.folder = config, folder
        self.data = _images(config, folder)
        self.model = build(config.model, config.model_settings, config.seed)
        _check_fit(self.model, self.data)
        _check_recipe(config, self.data)
        last = LastPerturbation() if config.diagnostics_every else None
        self.optimizer = make_optimizer(config, self.model, self.data, last)
        self.objective = config.make_objective()
        self.tracker = make_tracker(config, self.model, self.data, last, folder / DIAGNOSTICS) if last else None
        self.average = AveragedModel(self.model) if config.swa_from else None
        parts = {name: getattr(self, name) for name in ("model", "optimizer", "objective", "tracker", "average")}
        self.parts: dict[str, Any] = {name: part for name, part in parts.items() if part is not None}
        self.progress, self.saved = Progress(), 0.0

    def go(self) -> None:
        """Train to the end from where the run was saved last, and write the network."""
        config, folder = self.config, self.folder
        self.progress, self.saved = load_progress(folder, self.parts, config.epochs), monotonic()
        with self._bar() as bar:
            while self.progress.epoch < config.epochs:
                self._epoch(bar)
        network = self.model if self.average is None else self._averaged(self.average)
        save_checkpoint(folder, network, self._metadata(network, TEACHER))

    def _epoch(self, bar: "tqdm[Any]") -> None:
        """The rest of a pass over the training data."""
        at, began = self.progress, perf_counter() - self.progress.seconds
        bar.set_description(f"{self.config.optimizer}, epoch {at.epoch + 1}/{self.config.epochs}", refresh=False)
        for index in self._start_epoch()[at.batches :]:
            loss, right = self._step(index)
            at.batches, at.loss, at.right = at.batches + 1, at.loss + loss, at.right + right
            if self.tracker is not None:
                self.tracker.step()
            met = min(at.batches * self.config.batch_size, len(self.data.train_targets))
            bar.set_postfix(loss=f"{at.loss / met:.3f}", accuracy=f"{at.right / met:.3f}", refresh=False)
            bar.update()
            if monotonic() - self.saved > SAVE_SECONDS:
                at.seconds, at.random_state = perf_counter() - began, torch.get_rng_state()
                self._save()
        self._end_epoch(began)

    def _start_epoch(self) -> Sequence[Tensor]:
        """Random state, learning rate and objective as the epoch wants them; the images of each batch."""
        config, at = self.config, self.progress
        torch.manual_seed(_seed(config.seed, at.epoch))  # order, augmentation and dropout
        batches = torch.randperm(len(self.data.train_targets), device="cpu").split(config.batch_size)
        if at.random_state is not None:
            torch.set_rng_state(at.random_state)
        for group in self.optimizer.param_groups:
            group["lr"] = _learning_rate(config, at.epoch)
        self.model.train()
        self.objective.start_epoch(at.epoch, self.model)
        return batches

    def _step(self, index: Tensor) -> tuple[float, float]:
        """Train on the images `index` (B,); the sum of their losses and the number of right ones, both at w."""
        data, optimizer, objective = self.data, self.optimizer, self.objective
        images, targets = data.train_inputs[index], data.train_targets[index]
        augment = self.config.augmentation()
        span = data.pixel_span if augment.colours else None
        x, y = augment(images, targets, data.classes, torch.default_generator, span)
        size = self.config.m_sharpness or len(x)
        parts = [_Part(self, *part) for part in zip(x.split(size), y.split(size), index.split(size), strict=True)]
        objective.start_step()
        if isinstance(optimizer, SharpnessAware):
            optimizer.step(parts, sizes=[len(part.y) for part in parts])
        else:
            optimizer.step(parts[0])  # type: ignore[arg-type]
        objective.end_step(self.model)
        return sum(part.loss for part in parts), sum(part.right for part in parts)

    def _end_epoch(self, began: float) -> None:
        """The log's line, the average, a checkpoint where one is due, and the state to resume from."""
        at, count, config = self.progress, len(self.data.train_targets), self.config
        test_loss, test_accuracy = evaluate(self.model, self.data.test_inputs, self.data.test_targets)
        line = {
            "epoch": at.epoch + 1,
            "train_loss": at.loss / count,
            "train_accuracy": at.right / count,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
            "lr": _learning_rate(config, at.epoch),
            "seconds": perf_counter() - began,
        }
        self.progress = Progress(at.epoch + 1)
        if self.average is not None and self.progress.epoch >= config.swa_from:
            self.average.update_parameters(self.model)
        append_log(self.folder, line)
        if self.progress.epoch in config.checkpoint_epochs:
            early = self.folder / f"epoch-{self.progress.epoch}"
            save_checkpoint(early, self.model, self._metadata(self.model, f"../{TEACHER}"))
        self._save()

    def _save(self) -> None:
        save_progress(self.folder, self.progress, self.parts)
        self.saved = monotonic()

    def _averaged(self, average: AveragedModel) -> nn.Module:
        """The averaged network, its batch-norm statistics those of all training images, not augmented."""
        network: nn.Module = average.module
        images, targets = (t.split(self.config.batch_size) for t in (self.data.train_inputs, self.data.train_targets))
        problem = Problem(network, F.cross_entropy, list(zip(images, targets, strict=True)), batch_norm="recompute")
        network.load_state_dict(problem.statistics(problem.vector()), strict=False)
        return network

    def _bar(self) -> "tqdm[Any]":
        """A bar over the steps of the whole training."""
        config, at = self.config, self.progress
        steps = ceil(len(self.data.train_targets) / config.batch_size)
        total, done = config.epochs * steps, at.epoch * steps + at.batches
        hidden = None if config.progress is None else not config.progress
        return tqdm(total=total, initial=done, unit="step", disable=hidden)

    def _metadata(self, network: nn.Module, teacher: str) -> dict[str, Any]:
        config, data = self.config, self.data
        train_loss, train_accuracy = evaluate(network, data.train_inputs, data.train_targets)
        test_loss, test_accuracy = evaluate(network, data.test_inputs, data.test_targets)
        return {
            "model": {"name": config.model, "settings": config.settings()["model_settings"]},
            "config": config.settings(),
            "epoch": self.progress.epoch,
            "teacher": teacher if config.bootstrap_rounds else None,  # seen from the checkpoint's folder
            "parameters": sum(p.numel() for p in network.parameters()),
            "train_loss": train_loss,
            "train_accuracy": train_accuracy,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
            "seconds": sum(line["seconds"] for line in read_log(self.folder)),
            "versions": versions(),
        }

    def not_finite(self, loss: Tensor) -> str:
        epoch, lr = self.progress.epoch + 1, self.config.lr
        return f"epoch {epoch}: the loss is {loss.item()}; try a smaller lr ({lr}) or rho"


class _Part:
    """Images that have a perturbation of their own, as the optimiser's closure; `loss` and `right` are sums at w."""

    def __init__(self, run: _Run, x: Tensor, y: Tensor, index: Tensor) -> None:
        self.run, self.x, self.y, self.index = run, x, y, index
        self.backward = getattr(run.optimizer, "backward", Tensor.backward)  # AdaHessian has one of its own
        self.loss = nan
        self.right = 0.0

    def __call__(self) -> Tensor:
        self.run.optimizer.zero_grad()
        loss, outputs = self.run.objective(self.run.model, self.x, self.y, self.index)
        require(bool(loss.isfinite()), self.run.not_finite(loss))
        self.backward(loss)
        if isnan(self.loss):  # the first pass is at w, later ones at w + e
            self.loss = loss.item() * len(self.y)
            each = 1 if self.y.is_floating_point() else self.y[0].numel()  # labels of an input
            self.right = count_right(outputs.detach(), self.y) / each
        return loss


def _images(config: TrainConfig, folder: Path) -> Images:
    """The data set; where there are rounds of bootstrapping, with the labels that the round before predicts."""
    data = load(
        config.dataset,
        config.data_path,
        label_noise=config.label_noise,
        seed=config.seed,
        settings=config.data_settings,
    )
    if not config.bootstrap_rounds:
        return data
    earlier = replace(config, folder=folder / TEACHER, bootstrap_rounds=config.bootstrap_rounds - 1)
    return relabel(data, train(earlier))


def _check_fit(model: nn.Module, data: Images) -> None:
    """Raise ValueError unless the network maps the images to one output a class."""
    inputs = data.train_inputs[:2]
    try:
        with torch.no_grad(), training_flags_kept(model):
            shape = tuple(model.eval()(inputs).shape)
    except (RuntimeError, IndexError) as error:
        reason, kind = first_line(error), "images" if inputs.is_floating_point() else "tokens"
        raise ValueError(f"model must take {kind} of shape {tuple(inputs.shape[1:])}: {reason}") from error
    expected = (len(inputs), data.classes, *data.train_targets.shape[1:])
    wanted = "" if len(expected) == 2 else f" of shape {expected[1:]}"
    require(shape == expected, f"model must have classes={data.classes} outputs{wanted}, got shape {shape[1:]}")


def _check_recipe(config: TrainConfig, data: Images) -> None:
    """Raise ValueError if something else than images is to be augmented, or an objective needs one label an input."""
    images = data.train_inputs.ndim == 4 and data.train_inputs.is_floating_point()
    plain = config.augmentation() == Augmentation()
    got = f"{data.train_inputs.dtype} of shape {tuple(data.train_inputs.shape[1:])}"
    require(images or plain, f"augmentation (crop, flip, ...) must be left out, as {config.dataset!r} is {got}")
    one = data.train_targets.ndim == 1 or config.objective == "plain"
    require(one, f"objective must be 'plain' where an input has several labels, got {config.objective!r}")


def _learning_rate(config: TrainConfig, epoch: int) -> float:
    return config.lr * (1 + cos(pi * epoch / config.epochs)) / 2 if config.cosine else config.lr


def _seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0])
