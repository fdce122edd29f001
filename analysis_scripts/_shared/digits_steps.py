"""Step by step through a training on digits, and its sharpest direction, for scripts that look at single steps."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import landscape as ls
from landscape.data import Images
from landscape.storage.results import EigenPairs
from landscape.vectors import Vector

Closure = Callable[[], Tensor]


def steps(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: Images, *, epochs: int, batch_size: int, seed: int
) -> Iterator[Closure]:
    """The closure of each step, which the reader is to take; between them the learning rate falls along half a cosine.

    Args:
        model: what is trained, in the mode it is in.
        optimizer: whose learning rate is changed; `optimizer.step(closure)` is the caller's.
        data: images and labels.
        epochs: passes over the training images.
        batch_size: images a step; what is left over at the end of an epoch is left out.
        seed: of the order of the images.
    """
    order = torch.Generator().manual_seed(seed)
    count = len(data.train_targets) // batch_size
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * count)
    for _ in range(epochs):
        for index in torch.randperm(len(data.train_targets), generator=order).split(batch_size)[:count]:

            def closure(index: Tensor = index) -> Tensor:
                optimizer.zero_grad()
                loss = F.cross_entropy(model(data.train_inputs[index]), data.train_targets[index])
                loss.backward()
                return loss

            yield closure
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
