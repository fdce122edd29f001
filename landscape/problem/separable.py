"""Whether a batch's loss is the mean of its parts' losses: what per-sample quantities and cut batches take for granted.

It is not where the loss couples the samples of a batch (contrastive and triplet losses, batch statistics), where it
draws random numbers, or where the mean runs over something else than the problem's units (class weights, ignored
targets).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from landscape.checks import require
from landscape.problem import Problem
from landscape.problem.batch import Batch

Pair = tuple[Any, Any]  # inputs and targets


def require_separable(
    problem: Problem, whole: Sequence[Pair], pieces: Sequence[Pair], what: str, w: Tensor | None = None
) -> None:
    """Compare the mean loss over `whole` with that over `pieces`, each weighted by its units; two forward passes.

    Args:
        problem: the scalar function, of one process.
        whole: batches.
        pieces: the same samples, cut or joined otherwise.
        what: that needs both to be the same, to begin the message.
        w: (P,), where; default the model's own weights.
    Raises:
        ValueError: if they differ by more than √eps of the mean size of the losses.
    """
    (one, size), (two, other) = (_mean_and_size(problem.with_data(list(pairs)), w) for pairs in (whole, pieces))
    tolerance = float(torch.finfo(problem.vector().dtype).eps ** 0.5)
    require(
        abs(one - two) <= tolerance * max(size, other),
        f"{what} needs a loss that is the mean over single samples, got {one:.6g} of a batch and {two:.6g} of the same "
        "samples regrouped: the loss couples the samples of a batch (contrastive, batch statistics), draws random "
        "numbers, or is a mean over other units (pass weight=)",
    )


def _mean_and_size(problem: Problem, w: Tensor | None) -> tuple[float, float]:
    """Means of the batches' losses and of their absolute values."""

    def term(batch: Batch) -> Tensor:
        loss = batch.loss(batch.w)
        return torch.stack([loss, loss.abs()])

    with torch.no_grad():
        mean, size = problem.mean(term, w, shape=(2,)).tolist()
    return mean, size
