"""The bundled trainer: small image classifiers, SGD or a two-pass rule around it.

The same config gives the same weights, bit for bit on one CPU with one number of threads, whether or not the run was
interrupted: initialisation, label noise, the order of the images, augmentation and dropout all follow from the seed and
the epoch. A batch is augmented once a step: both passes of a rule see the same images and targets. The state is saved
every minute, and after an epoch once a second has passed, random state included: a minute's work at most is done twice.
"""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from math import ceil, isfinite
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from landscape.checks import require
from landscape.data import Images, Lazy, load
from landscape.data.workers import worker_deaths_told
from landscape.models import build
from landscape.processes.progress import Bar, progress_bar
from landscape.side_effects import random_state_kept, seed_of, seed_torch
from landscape.storage.results import versions
from landscape.training.trainer.bootstrap import TEACHER, relabel
from landscape.training.trainer.checkpoint import save_checkpoint
from landscape.training.trainer.config import TrainConfig
from landscape.training.trainer.device import device_of, placed, scaler_for
from landscape.training.trainer.diagnostics import LastPerturbation, make_tracker
from landscape.training.trainer.evaluation import evaluate_on
from landscape.training.trainer.kept import Best, average_of, averaged
from landscape.training.trainer.lazily import Drawn, begun, check_lazy_data, epoch_of, held_out_batches
from landscape.training.trainer.network import check_fit, check_recipe, network_of, split
from landscape.training.trainer.optimizer import make_optimizer
from landscape.training.trainer.passes import step_on
from landscape.training.trainer.ranks import Ranks, launched
from landscape.training.trainer.run_folder import (
    DIAGNOSTICS,
    Progress,
    append_log,
    claimed,
    finished,
    put_back,
    read_log,
    read_progress,
    save_progress,
)
from landscape.training.trainer.schedule import learning_rate
from landscape.vectors import is_synchronous

SAVE_SECONDS = 60.0  # between saves within an epoch
EPOCH_SECONDS = 1.0  # between saves after an epoch
SHOW_SECONDS = 0.5  # between looks at the numbers of a GPU


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
    folder, device = Path(config.folder), device_of(config.device)
    with launched(device) as ranks, claimed(folder, config, ranks):
        if not ranks.tell(ranks.first and finished(folder)):
            with random_state_kept(), worker_deaths_told():
                Run(config, folder, device, ranks).go()
            ranks.tell(None)  # no process leaves before the first has written the network
    return folder


class Run:
    """One training: its parts, and how far it is."""

    def __init__(self, config: TrainConfig, folder: Path, device: torch.device, ranks: Ranks) -> None:
        self.config, self.folder, self.device, self.ranks = config, folder, device, ranks
        data, held_out = split(_images(config, folder), config.validation_share, config.seed)
        check_lazy_data(data, config, ranks, device)
        self.model = build(config.model, config.model_settings, config.seed)
        check_fit(self.model, data)
        check_recipe(config, data)
        self.state = ranks.tell(read_progress(folder, config.epochs) if ranks.first else None)
        self.beginning = begun(data, self.model, config, self.state)
        self.data, self.model = placed(data, device, config.workers, config.steps_per_epoch), self.model.to(device)
        self.held_out = held_out_batches(held_out, config.batch_size)
        if config.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = network_of(self.model, config, ranks, self.data.count)
        last = LastPerturbation() if config.diagnostics_every else None
        self.optimizer = make_optimizer(config, self.model, self.network, self.data, last)
        self.objective = config.make_objective()
        self.scaler = scaler_for(device, config.precision)
        self.micro_batch, self.augment = config.micro_batch, config.augmentation()
        self.tracker = make_tracker(config, self.model, self.data, last, folder / DIAGNOSTICS) if last else None
        self.average = average_of(self.model, config)
        self.best = Best(self.model) if config.patience else None
        names = ("model", "optimizer", "objective", "tracker", "average", "scaler", "best")
        self.parts: dict[str, Any] = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        self.progress, self.saved = Progress(), 0.0

    def go(self) -> None:
        """Train to the end from where the run was saved last, and write the network."""
        config, folder, ranks = self.config, self.folder, self.ranks
        self.progress = put_back(folder, self.state, self.parts, write=ranks.first)
        self.saved, self.state = monotonic(), None
        with self._bar() as bar:
            while self.progress.epoch < config.epochs and not self.progress.stopped:
                self._epoch(bar)
        if ranks.first:
            save_checkpoint(folder, network := self._network(), self._metadata(network, TEACHER))

    def _epoch(self, bar: Bar) -> None:
        """The rest of a pass over the training data."""
        at, began = self.progress, perf_counter() - self.progress.seconds
        bar.set_description(f"{self.config.optimizer}, epoch {at.epoch + 1}/{self.config.epochs}", refresh=False)
        pending, shown = torch.zeros((), device=self.device), monotonic()
        with closing(self._start_epoch()) as batches:
            for drawn in batches:
                pending, at.batches, at.samples = pending + self._step(drawn), at.batches + 1, at.samples + drawn[3]
                if self.tracker is not None:
                    self.tracker.step()
                bar.update()
                due = monotonic() - self.saved > SAVE_SECONDS or at.batches == self._batches
                if not (due or is_synchronous(pending) or monotonic() - shown > SHOW_SECONDS):
                    continue  # to read a GPU's numbers is to wait for it
                self._count(pending.tolist(), bar)
                pending, shown = torch.zeros((), device=self.device), monotonic()
                if due and at.batches != self._batches:
                    at.seconds, at.random_state = perf_counter() - began, torch.get_rng_state()
                    at.device_state = torch.cuda.get_rng_state() if self.device.type == "cuda" else None
                    self._save()
        if pending.ndim:  # a stream ends when it likes
            self._count(pending.tolist(), bar)
        self._end_epoch(began)

    def _start_epoch(self) -> Generator[Drawn]:
        """Random state and objective as the epoch wants them; its batches that are left."""
        config, at = self.config, self.progress
        seed_torch(seed_of(config.seed, at.epoch))  # order, augmentation and dropout
        batches = epoch_of(self.data, config, self.ranks, at.epoch, at.batches)
        if at.random_state is not None:
            torch.set_rng_state(at.random_state)
        if at.device_state is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(at.device_state)
        self.model.train()
        self.network.train()
        self.objective.start_epoch(at.epoch, self.model)
        return batches

    def _count(self, sums: Sequence[float], bar: Bar) -> None:
        """Take the sums of loss and right ones of the last steps into account."""
        self.require_finite(sums[0])
        at = self.progress
        at.loss, at.right = at.loss + sums[0], at.right + sums[1]
        met = self._met
        bar.set_postfix(loss=f"{at.loss / met:.3f}", accuracy=f"{at.right / met:.3f}", refresh=False)

    def _step(self, drawn: Drawn) -> Tensor:
        """Train on a batch; the sum of its losses and the number of right ones, both at w, (2,)."""
        config, ranks, at = self.config, self.ranks, self.progress
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, at.epoch, at.batches, self._batches)
        x, y = (t.to(self.device, non_blocking=True) for t in drawn[:2])
        index, whole = drawn[2], isinstance(self.data, Images)
        if whole:  # of what is read lazily this process has its share alone
            x, y, index = (ranks.share(part) for part in (*self._augmented(x, y), index))
        with ranks.own_random(config.seed, at.epoch, at.batches):
            x, y = (x, y) if whole else self._augmented(x, y)
            parts = step_on(self, x, y, index, drawn[3])
        if self.average is not None and config.ema_decay:
            self.average.update_parameters(self.model)
        return self.ranks.summed(torch.stack([part.sums for part in parts if part.sums is not None]).sum(0))

    def _augmented(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        span = self.data.pixel_span if self.augment.colours else None
        x, y = self.augment(images, targets, self.data.classes, torch.default_generator, span)
        return (x.contiguous(memory_format=torch.channels_last) if self.config.channels_last else x), y

    def _end_epoch(self, began: float) -> None:
        """The log's line, the average, a checkpoint where one is due, and the state to resume from."""
        at, config, count = self.progress, self.config, self._met
        done = Progress(at.epoch + 1)
        if self.average is not None and config.swa_from and done.epoch >= config.swa_from:
            self.average.update_parameters(self.model)
        line: dict[str, Any] = {"epoch": done.epoch, "train_loss": at.loss / count, "train_accuracy": at.right / count}
        if self.ranks.first:
            line |= dict(zip(("test_loss", "test_accuracy"), self._evaluated("test"), strict=True))
            line |= {"lr": self.optimizer.param_groups[0]["lr"], "seconds": perf_counter() - began}
            done.stopped = self._reason_to_stop(done.epoch, line)
        line, self.progress = self.ranks.tell((line, done))
        if not self.ranks.first:
            return
        append_log(self.folder, line)
        if self.progress.epoch in config.checkpoint_epochs:
            early = self.folder / f"epoch-{self.progress.epoch}"
            save_checkpoint(early, self.model, self._metadata(self.model, f"../{TEACHER}"))
        over = self.progress.epoch == config.epochs or self.progress.stopped
        if over or monotonic() - self.saved > min(SAVE_SECONDS, EPOCH_SECONDS):
            self._save()

    def _reason_to_stop(self, epoch: int, line: dict[str, Any]) -> str:
        """ "loss", "patience" or "", from what stands in the log's line from now on."""
        config = self.config
        if config.stop_at_loss:
            line["evaluated_train_loss"] = self._evaluated("train")[0]
            if line["evaluated_train_loss"] <= config.stop_at_loss:
                return "loss"
        if self.held_out is not None:
            line["validation_loss"], line["validation_accuracy"] = evaluate_on(self.model, self.held_out)
        if self.best is not None:
            self.best.note(self.model, line["validation_loss"], epoch)
            if epoch - self.best.epoch >= config.patience:
                return "patience"
        return ""

    def _evaluated(self, of: str, network: nn.Module | None = None) -> tuple[float, float]:
        size = 512 if isinstance(self.data, Images) else self.config.batch_size
        return evaluate_on(self.model if network is None else network, self.data.batches(of, size))

    def _save(self) -> None:
        if self.ranks.first:
            save_progress(self.folder, self.progress, self.parts, self.beginning)
        self.saved = monotonic()

    def _network(self) -> nn.Module:
        """The run's: the last one, the best on what was held out, or an average."""
        if self.best is not None:
            self.best.put_into(self.model)
        return self.model if self.average is None else averaged(self.average, self.data, self.config.batch_size)

    @property
    def _batches(self) -> int:
        """Of an epoch; of a stream as the config says, 0 where it does not."""
        count = self.data.count
        return self.config.steps_per_epoch if count is None else ceil(count / self.config.batch_size)

    @property
    def _met(self) -> int:
        """Samples of the epoch's batches so far."""
        at, count = self.progress, self.data.count
        return at.samples if count is None else min(at.batches * self.config.batch_size, count)

    def _bar(self) -> Bar:
        """A bar over the steps of the whole training."""
        config, at = self.config, self.progress
        total, done = config.epochs * self._batches, at.epoch * self._batches + at.batches
        progress = config.progress if self.ranks.first else False
        return progress_bar(total or None, initial=done, unit="step", progress=progress)

    def _metadata(self, network: nn.Module, teacher: str) -> dict[str, Any]:
        config = self.config
        return {
            "model": {"name": config.model, "settings": config.settings()["model_settings"]},
            "config": config.settings(),
            "epoch": self.progress.epoch,
            "stopped": self.progress.stopped or "epochs",
            "fresh": self.beginning["fresh"],  # what start_from did not give
            "teacher": teacher if config.bootstrap_rounds else None,  # seen from the checkpoint's folder
            "parameters": sum(p.numel() for p in network.parameters()),
            **dict(zip(("train_loss", "train_accuracy"), self._evaluated("train", network), strict=True)),
            **dict(zip(("test_loss", "test_accuracy"), self._evaluated("test", network), strict=True)),
            "seconds": sum(line["seconds"] for line in read_log(self.folder)),
            "versions": versions(),
        }

    def require_finite(self, loss: float) -> None:
        """Raises ValueError for a loss that is NaN or infinite."""
        epoch, lr = self.progress.epoch + 1, self.config.lr
        require(isfinite(loss), f"epoch {epoch}: the loss is {loss}; try a smaller lr ({lr}) or rho")


def _images(config: TrainConfig, folder: Path) -> Images | Lazy:
    """The data set; where there are rounds of bootstrapping, with the labels that the round before predicts."""
    data = load(
        config.dataset,
        config.data_path,
        label_noise=config.label_noise,
        seed=config.seed,
        settings=config.data_settings,
        lazily=config.lazy,
    )
    if not config.bootstrap_rounds:
        return data
    if isinstance(data, Lazy):
        raise ValueError("bootstrap_rounds must be 0 for data that are read lazily: it keeps labels")
    earlier = replace(config, folder=folder / TEACHER, bootstrap_rounds=config.bootstrap_rounds - 1)
    return relabel(data, train(earlier))
