"""One network on several data sets: split name to the same function on that split."""

from collections.abc import Iterable, Mapping
from typing import Any

from landscape.checks import require
from landscape.problem import Problem


def splits_of(problem: Problem, data: Mapping[str, Iterable[Any]] | None) -> dict[str, Problem]:
    """The problem on each split's data; without any, the problem itself under "train"."""
    if data is None:
        return {"train": problem}
    require(
        isinstance(data, Mapping) and len(data) > 0,
        f"data must map at least one split to its data, such as {{'train': loader}}, got {type(data).__name__}",
    )
    return {name: problem.with_data(own) for name, own in data.items()}
