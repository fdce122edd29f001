"""Whether a batch's loss is the mean of its parts' losses: what per-sample quantities and cut batches take for granted.

It is not where the loss couples the samples of a batch (contrastive and triplet losses, batch statistics), where it
draws random numbers, or where the mean runs over something else than the problem's units (class weights, ignored
targets).
"""

from collections.abc import Iterable

import torch

from landscape.problem.batch import Batch
from landscape.problem.cost import FORWARD, charge
from landscape.problem.traits import BatchError
from landscape.processes import WeightedSum


def require_separable(whole: Iterable[Batch], pieces: Iterable[Batch], what: str) -> None:
    """Compare the mean loss over `whole` with that over `pieces`, each weighted by its units; two forward passes.

    Args:
        whole: batches of a pass over the data.
        pieces: the same samples in the same pass, cut or joined otherwise.
        what: that needs both to be the same, to begin the message.
    Raises:
        ValueError: if they differ by more than √eps of the mean size of the losses.
    """
    (one, size, eps), (two, other, _) = _mean_and_size(whole), _mean_and_size(pieces)
    if abs(one - two) > eps**0.5 * max(size, other):
        raise BatchError(
            f"{what} needs a loss that is the mean over single samples, got {one:.6g} of a batch and {two:.6g} of the "
            "same samples regrouped: the loss couples the samples of a batch (contrastive, batch statistics), draws "
            "random numbers, or is a mean over other units (pass weight=)"
        )


def _mean_and_size(batches: Iterable[Batch]) -> tuple[float, float, float]:
    """Means of the batches' losses and of their absolute values, and eps of their precision."""
    sums, eps = WeightedSum(), 0.0
    with torch.no_grad():
        for batch in batches:
            loss = batch.loss(batch.w)
            sums.add(torch.stack([loss, loss.abs()]), batch.units)
            charge(batch.units * FORWARD)
            eps = torch.finfo(batch.precision).eps
    mean, size = sums.mean().tolist()
    return mean, size, eps
