"""The plane that holds most of a training run: principal components of its snapshots about the trained network.

With rows m_t = w_t − w, the leading eigenpairs λ, u of the Gram matrix G = M Mᵀ (T, T) give unit directions
d = Mᵀu / √λ, and λ / tr G is the share of Σ_t |m_t|² along d. M never lies in memory: both products run over pieces of
the flat vector, read from all snapshots at a time.
Source: Li et al. 2018, section 7, arXiv:1712.09913 (rows about the final weights; the Gram matrix is ours).
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from landscape.checks import integer_in, require
from landscape.problem import Problem
from landscape.slices.directions.direction_set import Directions
from landscape.slices.paths.recorder import Recorder, Snapshots

VECTORS = 4  # of length P in float64: what a piece may take
SMALLEST = 4096  # columns of a piece, so that files are not opened for a few numbers


def pca_directions(problem: Problem, snapshots: Recorder | str | Path, count: int = 2) -> tuple[Directions, Tensor]:
    """Directions of unit length along which a training run went, the widest first.

    Args:
        problem: its network is the origin, usually the trained one.
        snapshots: a `Recorder`, or its folder.
        count: how many.
    Returns:
        `count` vectors (P,), orthonormal, the first snapshot at non-negative coordinates; and for each its share of
        Σ_t |w_t − w|², (count,) float64.
    Raises:
        ValueError: if the snapshots do not fit the problem, or do not span `count` directions.
    """
    w = problem.require_whole("a trajectory").vector()
    kept = Snapshots(snapshots, problem.layout)
    integer_in("count", count, 1, len(kept.steps))
    gram = torch.zeros(len(kept.steps), len(kept.steps), dtype=torch.float64, device="cpu")
    for rows, _ in _pieces(kept, w):
        gram += rows @ rows.T
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(0)[:count], vectors.flip(1)[:, :count]
    require(
        bool(values[-1] > torch.finfo(torch.float64).eps * len(gram) * gram.trace()),
        f"the snapshots must span {count} directions, their variances are {values.tolist()}; record more steps",
    )
    made = torch.empty(count, len(w), dtype=torch.float64, device="cpu")
    mix = (vectors * torch.where(vectors[0] < 0, -1.0, 1.0) / values.sqrt()).T  # (count, T)
    for rows, place in _pieces(kept, w):
        made[:, place] = mix @ rows
    explained = values / gram.trace()
    return Directions(list(made.to(w)), kind="pca", explained=explained.tolist(), snapshots=len(gram)), explained


def _pieces(kept: Snapshots, w: Tensor) -> Iterator[tuple[Tensor, slice]]:
    """M in pieces of columns, (T, n) float64 on the CPU, each with its place in the flat vector."""
    length = max(SMALLEST, VECTORS * len(w) // len(kept.steps))
    for start in range(0, len(w), length):
        place = slice(start, min(start + length, len(w)))
        yield kept.columns(place.start, place.stop).double() - w[place].double().cpu(), place
