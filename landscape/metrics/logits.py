"""Logit normalisation: subtract each sample's mean logit and divide by the norm of the rest.

It takes the scale of the logits out of the comparison of networks: without it, a network of larger logits has a smaller
loss and a flatter one. The loss then is that of logits of norm 1, high and without a minimum at confident predictions.
Source: Andriushchenko et al. 2023, arXiv:2302.07011, section 2.
"""

from typing import Any

import torch
from torch import Tensor, nn

from landscape.checks import require
from landscape.metrics.subsets import first_batches
from landscape.problem import Problem
from landscape.problem.batch import Batch
from landscape.problem.batches import shapes
from landscape.problem.class_targets import ClassTargets


def with_normalized_logits(problem: Problem) -> Problem:
    """The same network with outputs normalised over their classes.

    Outputs (B, C) have them along axis 1. Of others, such as (B, C, H, W) or (B, T, C), the first batch tells.

    Raises:
        ValueError: if that axis is not known, or the outputs are no tensor of at least two axes.
    """
    axis = _class_axis(problem)

    def normalized(model: nn.Module, inputs: Any) -> Tensor:
        logits = problem.forward(model, inputs)
        centred = logits - logits.mean(axis, keepdim=True)
        return centred / centred.norm(dim=axis, keepdim=True).clamp(min=torch.finfo(centred.dtype).tiny)

    return problem.with_forward(normalized)


def _class_axis(problem: Problem) -> int:
    """Of the outputs, told by the first batch."""
    known = ClassTargets(problem.criterion)
    seen: list[Any] = []

    def look(batch: Batch) -> Tensor:
        outputs = batch.evaluate(batch.w)[1]
        if isinstance(outputs, Tensor) and outputs.ndim > 2:
            known.look(outputs, batch.targets)
        seen[:] = [outputs, batch.targets]
        return batch.w.new_zeros(())

    few = problem if problem.process_group is not None else problem.with_pairs(first_batches(problem, 1))
    with torch.no_grad():
        few.mean(look)
    outputs, targets = seen or (torch.zeros(1, 2), None)  # a process without data
    told = f"normalised logits need outputs with an axis of classes, got {shapes(outputs)}"
    require(isinstance(outputs, Tensor) and outputs.ndim > 1, f"{told}; pass forward=")
    if outputs.ndim == 2:
        return 1
    if known.axis is not None and known.fits(outputs, targets):
        return known.axis
    soft = isinstance(targets, Tensor) and targets.shape == outputs.shape and known.settled
    require(soft, f"{told} and targets {shapes(targets)}, which do not tell it; use a forward= that gives (B, C)")
    return 1  # probabilities, which torch's cross entropy has there
