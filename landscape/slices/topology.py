"""Basins of a loss surface and the barriers between them: persistence of a grid's sublevel sets.

The grid is flooded from below. A point with no wet neighbour begins a basin; a point that joins basins ends all but the
deepest of them (the elder rule), and who flows into whom is the merge tree. Barriers are those within the plane and
bound those of the whole parameter space from above, up to the grid's resolution.
Source: Edelsbrunner and Harer 2010, "Computational topology", chapter VII.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.checks import one_of, require
from landscape.storage.results import Map2D, Persistence, Slice2D

Array = NDArray[Any]
NOWHERE = (-1, -1)


def persistence(
    surface: Slice2D | Map2D | Tensor, *, split: str = "train", neighbours: int = 8, dimension: int = 0
) -> Persistence:
    """Persistent homology of the sublevel sets of a grid.

    Args:
        surface: a slice, whose loss is taken, a map, or the values (ny, nx). Pass log-values to weigh barriers by
            ratio.
        split: whose loss, of a slice.
        neighbours: 8 joins points along diagonals too, 4 along rows and columns only. A valley narrower than the grid's
            spacing that runs askew stays one basin with 8, and falls to pieces with 4.
        dimension: 0 for basins; 1 for rings around hills, which needs gudhi.
    Returns:
        Persistence. Points that are NaN or +inf are outside: each connected region of the others has its own basin that
        never dies. Of equal values the one with the smaller row, then column, counts as lower; a class that dies at the
        value it was born at is left out, so a plateau is one basin.
    Raises:
        ValueError: if an argument is unknown, or the surface is no grid with a value below infinity.
        ImportError: in dimension 1 without gudhi.
    """
    one_of("neighbours", neighbours, (4, 8))
    one_of("dimension", dimension, (0, 1))
    values = _values(surface, split)
    require(values.ndim == 2, f"surface must be a grid (ny, nx), got shape {values.shape}")
    values = np.where(np.isnan(values), np.inf, values)
    require(bool((values < np.inf).any()), "surface must hold a value below infinity, got none")
    return _basins(values, neighbours) if dimension == 0 else _rings(values, neighbours)


def _values(surface: Slice2D | Map2D | Tensor, split: str) -> Array:
    if isinstance(surface, Slice2D):
        one_of("split", split, tuple(surface.loss))
        surface = surface.loss[split]
    grid = surface.values if isinstance(surface, Map2D) else torch.as_tensor(surface, device="cpu")
    return grid.detach().cpu().double().numpy()


def _basins(values: Array, neighbours: int) -> Persistence:
    grid = np.pad(values, 1, constant_values=np.inf)  # a rim outside: every point has all neighbours
    flat, width = grid.ravel(), grid.shape[1]
    sides = (1, width) if neighbours == 4 else (1, width - 1, width, width + 1)
    died = _flooded(flat, [*sides, *(-side for side in sides)])
    bars = [(flat[point], flat[saddle] if saddle >= 0 else np.inf, point, saddle, into) for point, saddle, into in died]
    bars = sorted((bar for bar in bars if bar[1] > bar[0]), key=lambda bar: (bar[0] - bar[1], bar[0], bar[2]))
    row_of = {point: row for row, (_, _, point, _, _) in enumerate(bars)}
    places = [[(at // width - 1, at % width - 1) if at >= 0 else NOWHERE for at in bar[2:4]] for bar in bars]
    return _result(
        [bar[:2] for bar in bars], [place[0] for place in places], [place[1] for place in places],
        [row_of.get(bar[4], -1) for bar in bars], 0,
    )  # fmt: skip


def _flooded(flat: Array, offsets: Sequence[int]) -> list[tuple[int, int, int]]:
    """(minimum, saddle, minimum it flowed into) of each basin, in the order of the minima; -1 where it never did."""
    order = np.argsort(flat, kind="stable")
    order = order[flat[order] < np.inf]
    turn = {point: index for index, point in enumerate(order.tolist())}
    lower: dict[int, int] = {}  # wet point -> one of its basin that became wet before it; a minimum -> itself
    ends: dict[int, tuple[int, int]] = {}  # minimum -> (saddle, minimum it flowed into)

    for point in turn:
        wet = (point + offset for offset in offsets)
        met = sorted({_root(lower, other) for other in wet if other in lower}, key=turn.__getitem__)
        lower[point] = met[0] if met else point
        if not met:
            ends[point] = (-1, -1)
        for younger in met[1:]:
            lower[younger] = met[0]
            ends[younger] = (point, met[0])
    return [(minimum, *end) for minimum, end in ends.items()]


def _root(lower: dict[int, int], point: int) -> int:
    """The minimum of the basin that `point` is in; halves the way there for the next who asks."""
    while lower[point] != point:
        lower[point] = lower[lower[point]]
        point = lower[point]
    return point


def _rings(values: Array, neighbours: int) -> Persistence:
    try:
        from gudhi import CubicalComplex
    except ImportError as error:
        raise ImportError("dimension=1 needs gudhi; pip install 'landscape-toolkit[topology]'") from error
    with_diagonals = neighbours == 8
    cubes = CubicalComplex(**{"top_dimensional_cells" if with_diagonals else "vertices": values})
    cubes.compute_persistence()
    pairs, _ = cubes.cofaces_of_persistence_pairs() if with_diagonals else cubes.vertices_of_persistence_pairs()
    found = np.asarray(pairs[1] if len(pairs) > 1 else [], dtype=int).reshape(-1, 2)
    bars = values.ravel(order="F")[found]  # gudhi counts along columns
    order = np.lexsort((found[:, 0], bars[:, 0], bars[:, 0] - bars[:, 1]))
    bars, found = bars[order], found[order]
    places = np.stack(np.unravel_index(found, values.shape, order="F"), axis=-1)
    places[np.isinf(bars)] = NOWHERE
    return _result(bars, places[:, 0], places[:, 1], [-1] * len(bars), 1)


def _result(
    bars: Iterable[Any], minima: Iterable[Any], saddles: Iterable[Any], parents: list[int], dimension: int
) -> Persistence:
    birth, death = torch.tensor(np.array(list(bars), dtype=float).reshape(-1, 2), device="cpu").unbind(1)
    minimum, saddle = (
        torch.tensor(np.array(list(at), dtype=int).reshape(-1, 2), device="cpu") for at in (minima, saddles)
    )
    return Persistence(birth, death, minimum, saddle, torch.tensor(parents, dtype=torch.int64, device="cpu"), dimension)
