"""Step by step through a training on digits, and its sharpest direction, for scripts that look at single steps."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import landscape as ls
from landscape.data import Images
from landscape.storage.results import EigenPairs
from landscape.vectors import Vector

Closure = Callable[[], Tensor]


@dataclass(frozen=True)
class DigitsTraining:
    """What the configs of these scripts have in common: the data, and SGD as `steps` takes it."""

    label_noise: float = 0.2
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 128


def closure_of(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> Closure:
    """The loss of one batch, with its gradient in the parameters."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    return closure


def steps(
    model: nn.Module, rule: ls.rules.Rule, data: Images, config: Any, seed: int
) -> tuple[ls.SharpnessAware, Iterator[Closure]]:
    """The optimiser, and the closure of each step, which the reader is to take: `optimizer.step(closure)`.

    Args:
        model: what is trained, in the mode it is in.
        rule: of the optimiser.
        data: images and labels.
        config: lr, momentum and weight_decay of SGD, epochs, batch_size; an incomplete batch is left out.
        seed: of the order of the images.
    """
    settings = {"lr": config.lr, "momentum": config.momentum, "weight_decay": config.weight_decay}
    optimizer = ls.SharpnessAware(torch.optim.SGD(model.parameters(), **settings), rule, model=model)
    return optimizer, _closures(model, optimizer, data, config.epochs, config.batch_size, seed)


def _closures(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: Images, epochs: int, batch_size: int, seed: int
) -> Iterator[Closure]:
    """Between them the learning rate falls along half a cosine."""
    order = torch.Generator().manual_seed(seed)
    count = len(data.train_targets) // batch_size
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * count)
    for _ in range(epochs):
        for index in torch.randperm(len(data.train_targets), generator=order).split(batch_size)[:count]:
            yield closure_of(model, optimizer, data.train_inputs[index], data.train_targets[index])
            schedule.step()


def on_first(images: int, model: nn.Module, data: Images) -> ls.Problem:
    """The loss on the first so many training images."""
    return ls.Problem(model, F.cross_entropy, (data.train_inputs[:images], data.train_targets[:images]))


class Leading:
    """The largest eigenvalue of a problem's Hessian at the present weights; each search starts from the last vector."""

    def __init__(self, problem: ls.Problem, **settings: Any) -> None:
        self.problem, self.settings = problem, settings
        self.vector: Vector | None = None

    def __call__(self) -> EigenPairs:
        pairs = ls.top_eigenpairs(ls.hessian(self.problem), 1, which="LA", start=self.vector, **self.settings)
        self.vector = pairs.vectors[:, 0]
        return pairs
