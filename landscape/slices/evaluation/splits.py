"""One network on several data sets: split name to the same function on that split."""

from collections.abc import Iterable, Mapping
from math import nan
from typing import Any

import torch
from torch import Tensor

from landscape.checks import require
from landscape.problem import Problem
from landscape.slices.evaluation.accuracy import Counting, scored


def splits_of(problem: Problem, data: Mapping[str, Iterable[Any]] | None) -> dict[str, Problem]:
    """The problem on each split's data; without any, the problem itself under "train"."""
    if data is None:
        return {"train": problem}
    require(
        isinstance(data, Mapping) and len(data) > 0,
        f"data must map at least one split to its data, such as {{'train': loader}}, got {type(data).__name__}",
    )
    return {name: problem.with_data(own) for name, own in data.items()}


def evaluated(
    splits: Mapping[str, Problem],
    w: Tensor,
    buffers: Mapping[str, Tensor],
    counting: Mapping[str, Counting] | None = None,
) -> Tensor:
    """Loss and accuracy of each split at w with these buffers, (2, splits) float64; NaN and infinity stay.

    Without `counting` the accuracy is NaN.
    """
    rows = []
    for name, split in splits.items():
        loss, score = scored(split, _uncounted if counting is None else counting[name], w, buffers)
        rows.append((loss, score.accuracy))
    return torch.tensor(rows, dtype=torch.float64, device="cpu").reshape(-1, 2).T


def _uncounted(_outputs: Any, _targets: Any) -> float:
    return nan
