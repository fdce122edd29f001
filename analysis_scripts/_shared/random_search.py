"""One random search for each row of a comparison: learning rate, weight decay, radius, judged on a validation split.

Round after round each row tries the same number of points, log-uniform in a box around its best point so far, from the
same random numbers as all other rows; the box shrinks. The best points then get more seeds. A row whose winner is at an
edge of what it tried goes on. 304 of the 1,200 training images are the validation split: networks train on the others,
with their wrong labels, and are judged by true ones. The test images are in neither.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any, TypeVar

import numpy as np

import landscape as ls
from analysis_scripts._shared.many_networks import measuring, slug
from landscape.data import digits
from landscape.storage.results import read_json

K = TypeVar("K", bound=Hashable)
Point = dict[str, float]
Box = Mapping[str, tuple[float, float]]  # setting to the ends between which the first round draws
NONE_BELOW = {"weight_decay": 1e-5}  # a smaller value is 0, beyond which there is nothing


@dataclass(frozen=True)
class Row:
    """What is tuned: where its search begins, and the settings of `TrainConfig` at a point."""

    box: Box
    settings: Callable[[Point, int], dict[str, Any]]  # of a point and the number of steps in an epoch


@dataclass(frozen=True)
class Search:
    """How long is looked: the same for all rows, but for those at an edge."""

    points: int = 12  # a round
    rounds: int = 3
    most_rounds: int = 8  # for a row at an edge
    shrink: float = 0.6  # of the box, in logarithms, a round
    finalists: int = 4
    seeds: tuple[int, ...] = (100, 101, 102, 103)  # the first judges all points, all of them the finalists
    held_out: int = 304  # leaves 7 full batches, none so small that its statistics are noise
    seed: int = 0  # of the points


@dataclass(frozen=True)
class Tuned:
    """The best point of a row, its mean error on the validation split, how many were tried, what is at an edge."""

    point: Point
    error: float
    points: int
    edges: tuple[str, ...]


def tune(
    rows: Mapping[K, Row], folder: Path, search: Search, batch_size: int = 128, workers: int = 2
) -> dict[K, Tuned]:
    """The best point of each row. Networks are kept in `folder`, by row and point, and not trained again.

    Args:
        rows: name to what is tuned; the name as text is its folder's.
        folder: may be shared with other comparisons.
        search: how long.
        batch_size: from which the steps of an epoch follow.
        workers: processes.
    """
    steps = -(-(1200 - search.held_out) // batch_size)
    searches = {row: _Searched(own, folder / slug(str(row)), search, steps) for row, own in rows.items()}
    tuned: dict[K, Tuned] = {}
    with measuring(error, workers) as trained:
        for number in range(1, search.most_rounds + 1):
            left = {row: own for row, own in searches.items() if row not in tuned}
            for own in left.values():
                own.draw()
            _try(left, {row: own.newest() for row, own in left.items()}, search.seeds[:1], trained)
            if number < search.rounds:
                continue
            _try(left, {row: own.finalists() for row, own in left.items()}, search.seeds, trained)
            found = {row: own.tuned() for row, own in left.items()}
            tuned |= {row: own for row, own in found.items() if not own.edges or number == search.most_rounds}
    return {row: tuned[row] for row in rows}


class _Searched:
    """One row's points and their errors by seed."""

    def __init__(self, row: Row, folder: Path, search: Search, steps: int) -> None:
        self.row, self.folder, self.search, self.steps = row, folder, search, steps
        self.points: list[Point] = []
        self.errors: list[dict[int, float]] = []  # of a point: seed to error
        self.rounds = 0

    def draw(self) -> None:
        """A round's points: uniform in logarithms, around the best one of the rounds before."""
        uniform = np.random.default_rng([self.search.seed, self.rounds]).random((self.search.points, len(self.row.box)))
        centre = self.points[self.ranked()[0]] if self.points else {}
        for at in uniform:
            point = {}
            for (name, (low, high)), u in zip(self.row.box.items(), at, strict=True):
                width = np.log(high / low) * self.search.shrink**self.rounds
                middle = max(centre.get(name, (low * high) ** 0.5), NONE_BELOW.get(name, 0.0))
                value = float(middle * np.exp((u - 0.5) * width))
                point[name] = 0.0 if value < NONE_BELOW.get(name, 0.0) else float(f"{value:.3g}")
            self.points.append(point)
            self.errors.append({})
        self.rounds += 1

    def newest(self) -> range:
        return range(len(self.points) - self.search.points, len(self.points))

    def ranked(self) -> list[int]:
        """The points from the smallest error of the first seed on."""
        return sorted(range(len(self.points)), key=lambda i: self.errors[i][self.search.seeds[0]])

    def finalists(self) -> list[int]:
        return self.ranked()[: self.search.finalists]

    def tuned(self) -> Tuned:
        """The finalist with the smallest mean error."""
        errors = {i: mean(self.errors[i][seed] for seed in self.search.seeds) for i in self.finalists()}
        best = min(errors, key=errors.__getitem__)
        point = self.points[best]
        edges = tuple(name for name in point if at_edge(name, point[name], (own[name] for own in self.points)))
        return Tuned(point, errors[best], len(self.points), edges)


def at_edge(name: str, value: float, tried: Iterable[float], fewest: int = 2) -> bool:
    """Whether fewer than so many of the values tried lie below `value`, or above it: a further one might be better."""
    others = list(tried)
    below, above = (sum(own < value for own in others), sum(own > value for own in others))
    return above < fewest or (below < fewest and not (name in NONE_BELOW and value == 0))


def _try(
    searches: Mapping[K, _Searched],
    asked: Mapping[K, Iterable[int]],
    seeds: Iterable[int],
    trained: Callable[[dict[Any, ls.TrainConfig]], dict[Any, dict[str, Any]]],
) -> None:
    """Train the points that are asked for, and note the errors; a network that diverged is all wrong."""
    networks = {}
    for row, own in searches.items():
        file = split(own.folder.parent, own.search.held_out)
        for i, seed in product(asked[row], seeds):
            settings = own.row.settings(own.points[i], own.steps) | {"dataset": "npz", "data_path": str(file)}
            networks[row, i, seed] = ls.TrainConfig(own.folder / f"{i}-{seed}", seed=seed, progress=False, **settings)
    for (row, i, seed), found in trained(networks).items():
        searches[row].errors[i][seed] = found.get("error", 1.0)


def split(folder: Path, held_out: int) -> Path:
    """The training images as a data set: the last ones are its test set. The true test set is in neither."""
    file = folder / "held_out.npz"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        data = digits()
        x, y = data.train_inputs.numpy(), data.clean_targets.numpy()
        np.savez_compressed(
            file,
            train_inputs=x[:-held_out],
            train_targets=y[:-held_out],
            test_inputs=x[-held_out:],
            test_targets=y[-held_out:],
        )
    return file


def error(folder: Path) -> dict[str, Any]:
    """The share of wrong predictions on the network's test set, which for `tune` is the validation split."""
    return {"error": 1 - read_json(folder / "model.json")["test_accuracy"]}
