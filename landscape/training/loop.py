"""The bundled trainer: small image classifiers, SGD or a two-pass rule around it.

The same config gives the same weights, bit for bit on one CPU with one number of threads, whether or not the run was
interrupted: initialisation, label noise, the order of the images, augmentation and dropout all follow from the seed and
the epoch. A batch is augmented once a step: both passes of a rule see the same images and targets.
"""

from math import cos, pi
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from landscape.checks import require
from landscape.curvature import hessian
from landscape.data import Images, load
from landscape.isolation import random_state_kept, training_flags_kept
from landscape.linalg import top_eigenpairs
from landscape.models import build
from landscape.problem import Problem
from landscape.results import versions
from landscape.training.checkpoint import save_checkpoint
from landscape.training.config import TrainConfig
from landscape.training.objectives import Objective
from landscape.training.run_folder import claim, finished, load_progress, read_log, save_progress
from landscape.training.step import SharpnessAware

Batch = tuple[Tensor, Tensor, Tensor]  # inputs, targets, index


def train(config: TrainConfig) -> Path:
    """Train a network, or go on with a run that was interrupted; a finished run returns at once.

    The log has the mean loss (label smoothing included) and accuracy over the epoch's batches as they were met, and the
    test set's; under mixup a prediction is right by its class's share in the target. The checkpoint's metadata has
    train_loss (cross entropy on the labels trained on, the noisy ones, and images that are not augmented),
    train_accuracy, test_loss and test_accuracy of the final network in eval mode over all data.

    Returns:
        The run folder, for `load_checkpoint`: config.json, log.jsonl, resume.pt, model.safetensors, model.json.
    Raises:
        ValueError: if the folder cannot be written or holds another config, the network does not fit the data, or
            the loss becomes NaN or infinite.
    """
    folder = Path(config.folder)
    claim(folder, config.settings())
    if not finished(folder):
        with random_state_kept():
            _run(config, folder)
    return folder


def evaluate(model: nn.Module, inputs: Tensor, targets: Tensor, batch_size: int = 512) -> tuple[float, float]:
    """Mean cross entropy and accuracy over all samples, in eval mode."""
    total, right = 0.0, 0
    with torch.no_grad(), training_flags_kept(model):
        model.eval()
        for x, y in zip(inputs.split(batch_size), targets.split(batch_size), strict=True):
            outputs = model(x)
            total += F.cross_entropy(outputs, y, reduction="sum").item()
            right += int((outputs.argmax(1) == y).sum())
    return total / len(targets), right / len(targets)


def _run(config: TrainConfig, folder: Path) -> None:
    data = load(config.dataset, config.data_path, label_noise=config.label_noise, seed=config.seed)
    model = build(config.model, config.model_settings, config.seed)
    _check_fit(model, data)
    optimizer, objective = _optimizer(config, model, data), config.minimised()
    state = load_progress(folder)
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        objective.load_state_dict(state["objective"])
    start = state["epoch"] if state else 0
    hidden = None if config.progress is None else not config.progress
    with tqdm(total=config.epochs, initial=start, desc=config.optimizer, unit="epoch", disable=hidden) as bar:
        for epoch in range(start, config.epochs):
            line = _epoch(config, epoch, model, optimizer, objective, data)
            parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "objective": objective}
            progress = {"epoch": epoch + 1} | {name: part.state_dict() for name, part in parts.items()}
            save_progress(folder, line, progress)
            bar.set_postfix(loss=f"{line['train_loss']:.3f}", accuracy=f"{line['train_accuracy']:.3f}")
            bar.update()
    save_checkpoint(folder, model, _metadata(config, model, data, sum(line["seconds"] for line in read_log(folder))))


def _epoch(
    config: TrainConfig,
    epoch: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    data: Images,
) -> dict[str, Any]:
    """One pass over the training data; the log's line."""
    began = perf_counter()
    torch.manual_seed(_seed(config.seed, epoch))  # order, augmentation and dropout
    lr = config.lr * (1 + cos(pi * epoch / config.epochs)) / 2 if config.cosine else config.lr
    for group in optimizer.param_groups:
        group["lr"] = lr
    count, total, right = len(data.train_targets), 0.0, 0.0
    augment = config.augmentation()
    model.train()
    backward = getattr(optimizer, "backward", Tensor.backward)  # AdaHessian has one of its own
    objective.start_epoch(epoch, model)
    for index in torch.randperm(count).split(config.batch_size):
        batch = data.train_inputs[index], data.train_targets[index]
        x, y = augment(*batch, data.classes, torch.default_generator)
        passes: list[tuple[Tensor, Tensor]] = []

        def closure(batch: Batch = (x, y, index), passes: list[tuple[Tensor, Tensor]] = passes) -> Tensor:
            optimizer.zero_grad()
            loss, outputs = objective(model, *batch)
            _check_loss(loss, epoch, config)
            backward(loss)
            passes.append((loss.detach(), outputs.detach()))
            return loss

        objective.start_step()
        optimizer.step(closure)  # type: ignore[arg-type]
        objective.end_step(model)
        loss, outputs = passes[0]  # at w, not at w + e
        total += loss.item() * len(y)
        right += _right(outputs, y)
    test_loss, test_accuracy = evaluate(model, data.test_inputs, data.test_targets)
    return {
        "epoch": epoch + 1,
        "train_loss": total / count,
        "train_accuracy": right / count,
        "test_loss": test_loss,
        "test_accuracy": test_accuracy,
        "lr": lr,
        "seconds": perf_counter() - began,
    }


def _right(outputs: Tensor, targets: Tensor) -> float:
    """Right predictions; of targets that are probabilities, their sum over the predicted classes."""
    predicted = outputs.argmax(1)
    if targets.ndim == 1:
        return (predicted == targets).sum().item()
    return targets.gather(1, predicted[:, None]).sum().item()


def _optimizer(config: TrainConfig, model: nn.Module, data: Images) -> torch.optim.Optimizer:
    base = config.base(model.parameters())
    subset = (data.train_inputs[: config.eigen_samples], data.train_targets[: config.eigen_samples])
    criterion = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)

    def top() -> Tensor:
        state = optimizer.rule_state  # the last eigenvector is in the saved state, so a resumed run starts from it too
        H = hessian(Problem(model, criterion, subset))
        start = state["v"] if state else None
        pairs = top_eigenpairs(H, 1, which="LA", max_matvecs=config.eigen_products, start=start)
        return pairs.vectors[:, 0]

    def fisher() -> Tensor:
        singles = zip(*(part.split(1) for part in subset), strict=True)
        return sum((Problem(model, criterion, single).gradient() ** 2 for single in singles), torch.zeros(()))

    rule = config.rule({"top": top, "fisher": fisher})
    if rule is None:
        return base
    optimizer = SharpnessAware(base, rule, model=model)
    return optimizer


def _metadata(config: TrainConfig, model: nn.Module, data: Images, seconds: float) -> dict[str, Any]:
    train_loss, train_accuracy = evaluate(model, data.train_inputs, data.train_targets)
    test_loss, test_accuracy = evaluate(model, data.test_inputs, data.test_targets)
    return {
        "model": {"name": config.model, "settings": config.settings()["model_settings"]},
        "config": config.settings(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_loss": train_loss,
        "train_accuracy": train_accuracy,
        "test_loss": test_loss,
        "test_accuracy": test_accuracy,
        "seconds": seconds,
        "versions": versions(),
    }


def _check_fit(model: nn.Module, data: Images) -> None:
    """Raise ValueError unless the network maps the images to one output a class."""
    inputs = data.train_inputs[:2]
    try:
        with torch.no_grad(), training_flags_kept(model):
            shape = tuple(model.eval()(inputs).shape)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"model must take images of shape {tuple(inputs.shape[1:])}: {reason}") from error
    require(shape == (2, data.classes), f"model must have classes={data.classes} outputs, got shape {shape[1:]}")


def _check_loss(loss: Tensor, epoch: int, config: TrainConfig) -> None:
    require(
        bool(loss.isfinite()), f"epoch {epoch + 1}: the loss is {loss.item()}; try a smaller lr ({config.lr}) or rho"
    )


def _seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0])
