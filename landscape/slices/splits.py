"""One network on several data sets: split name to the same function on that split."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from landscape.checks import require
from landscape.problem import Problem
from landscape.slices.accuracy import Score


def splits_of(problem: Problem, data: Mapping[str, Iterable[Any]] | None) -> dict[str, Problem]:
    """The problem on each split's data; without any, the problem itself under "train"."""
    if data is None:
        return {"train": problem}
    require(
        isinstance(data, Mapping) and len(data) > 0,
        f"data must map at least one split to its data, such as {{'train': loader}}, got {type(data).__name__}",
    )
    return {name: problem.with_data(own) for name, own in data.items()}


def evaluated(splits: Mapping[str, Problem], w: Tensor, buffers: Mapping[str, Tensor]) -> Tensor:
    """Loss and accuracy of each split at w with these buffers, (2, splits) float64; NaN and infinity stay."""
    rows = []
    for split in splits.values():
        score = Score()
        with torch.no_grad():
            loss = split.mean(score, w, buffers=dict(buffers))
        rows.append((float(loss), score.accuracy))
    return torch.tensor(rows, dtype=torch.float64, device="cpu").reshape(-1, 2).T
