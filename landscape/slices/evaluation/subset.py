"""A fixed random subset of a data set, in random groups whose losses tell the standard error of the mean.

A criterion gives a mean over a batch and not each sample's loss. So the n samples are drawn without replacement and
dealt out at random to G batches: with u_g units and mean loss L_g,

    stderr² = (1 − n / N) · G / (G − 1) · Σ_g u_g² (L_g − L)² / (Σ_g u_g)²,   L = Σ_g u_g L_g / Σ_g u_g,

which holds for any criterion and is 0 where all N samples are used. Up to 32 samples each is a group of its own: the
standard error over samples to the bit; with more it is known to 1/√(2 (G − 1)) = 13 %.
Source: Cochran 1977, Sampling Techniques, sections 2.6 and 6.5.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from landscape.checks import first_line, require
from landscape.problem import Problem
from landscape.problem.batch import Batch
from landscape.problem.batches import count, join, taken
from landscape.slices.evaluation.device_cache import cached_on_device

GROUPS = 32


def subsample(problem: Problem, samples: int, source: torch.Generator) -> tuple[Problem, float]:
    """The problem on `samples` of its samples, and their share of all; the whole where it has no more.

    Raises:
        ValueError: if batch statistics or a shard of the data would make the subset another function, or samples of
            different batches do not go into one.
    """
    require(
        problem.batch_norm != "batch" and problem.process_group is None,
        "subset= needs batch_norm 'eval' or 'recompute' and all the data in each process; cut the data set itself",
    )
    sizes: list[int] = []
    _each(problem, lambda batch: sizes.append(count(batch.inputs)))
    total = sum(sizes)
    if samples >= total:
        return cached_on_device(problem), 1.0
    chosen = torch.randperm(total, generator=source, device=source.device)[:samples].cpu()
    inputs, targets = _rows(problem, chosen.sort().values)
    groups = chosen.argsort().argsort().tensor_split(min(GROUPS, samples))
    return problem.with_pairs([(taken(inputs, group), taken(targets, group)) for group in groups]), samples / total


def standard_error(losses: Sequence[Tensor], units: Sequence[float], share: float) -> float:
    """Of the mean loss over groups, see above; NaN for one group of many."""
    if share == 1:
        return 0.0
    loss, weight = torch.stack(list(losses)).double().cpu(), torch.tensor(units, dtype=torch.float64, device="cpu")
    weight, groups = weight / weight.sum(), len(weight)
    spread = (weight * (loss - weight @ loss)).square().sum()
    return float((spread * (1 - share) * groups / (groups - 1)).sqrt()) if groups > 1 else torch.nan


def _rows(problem: Problem, chosen: Tensor) -> tuple[Any, Any]:
    """Inputs and targets of the samples `chosen` (n,), rising numbers in the order of the data."""
    pieces: list[tuple[Any, Any]] = []
    start = 0

    def pick(batch: Batch) -> None:
        nonlocal start
        stop = start + count(batch.inputs)
        own = chosen[(chosen >= start) & (chosen < stop)] - start
        if len(own):
            pieces.append((taken(batch.inputs, own), taken(batch.targets, own)))
        start = stop

    _each(problem, pick)
    try:
        inputs, targets = (join(part) for part in zip(*pieces, strict=True))
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"subset= needs samples of one shape, got {first_line(error)}; cut the data set itself"
        ) from error
    return inputs, targets


def _each(problem: Problem, visit: Callable[[Batch], Any]) -> None:
    def term(batch: Batch) -> Tensor:
        visit(batch)
        return batch.w.new_zeros(())

    problem.mean(term, buffers={})
