"""Clusters of networks that are not independent, and permutations of them.

Networks that differ by their seed alone share what their hyper-parameters do: they are exchanged together.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from landscape.study.statistics.kendall import Codes

Rows = Sequence[Mapping[str, Any]]


@runtime_checkable
class Frame(Protocol):
    """A pandas.DataFrame, as far as it is used."""

    def to_dict(self, *args: Any, **kwargs: Any) -> Any:
        """to_dict("records"): a dict a row."""


def rows_of(table: Rows | Frame) -> Rows:
    """A row per network, whatever holds them."""
    return table.to_dict("records") if isinstance(table, Frame) else table


def codes(rows: Rows, columns: Sequence[str]) -> Codes:
    """A number for each network, the same where all columns agree, (n,); without columns each has its own."""
    if not columns:
        return np.arange(len(rows))
    seen: dict[tuple[Any, ...], int] = {}
    return np.array([seen.setdefault(tuple(row[column] for column in columns), len(seen)) for row in rows])


def permutations(clusters: Codes, count: int, seed: int) -> Codes:
    """Orders of the networks in which clusters of one size change places as wholes, (count, n).

    Within a cluster the order is random too. A cluster that no other equals in size keeps its place: nothing says with
    what it could be exchanged.
    """
    random = np.random.default_rng(seed)
    members = [np.flatnonzero(clusters == cluster) for cluster in range(clusters.max() + 1)]
    blocks = [np.stack([m for m in members if len(m) == size]) for size in sorted({len(m) for m in members})]
    orders = np.empty((count, len(clusters)), dtype=np.int64)
    for order in orders:
        for block in blocks:  # (clusters of this size, size)
            order[block] = random.permuted(random.permutation(block), axis=1)
    return orders
