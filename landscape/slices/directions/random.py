"""Random directions for slices of the loss, d ~ N(0, 1), rescaled to the weights as `normalization` has it.

The cosine between two of them is about N(0, 1/P): in a large network they are nearly orthogonal without being made so.
Source: Li et al. 2018, section 4, arXiv:1712.09913.
"""

import torch

from landscape.checks import integer_in
from landscape.problem import Problem
from landscape.side_effects import random_source
from landscape.slices.directions.direction_set import Directions, orthogonalised
from landscape.slices.directions.normalization import normalize_direction


def random_directions(
    problem: Problem,
    count: int = 2,
    *,
    normalize: str | None = "filter",
    ignore: str | None = "bias_norm",
    orthogonal: bool = False,
    generator: torch.Generator | None = None,
) -> Directions:
    """Gaussian directions in parameter space, rescaled to the weights.

    Args:
        problem: the scalar function; its data is not read.
        count: how many; at least 1.
        normalize: "filter" | "layer" | "model" | None, see `normalize_direction`.
        ignore: "bias_norm" holds biases, scales and shifts of normalisation layers still; None moves them too.
        orthogonal: make each orthogonal to those before it, of the same length; its filters then have the norms of
            their weights only about. Li et al. do not.
        generator: default seed 0. A seed draws the same numbers whatever is ignored; of a sharded model in float64.
    Returns:
        `count` vectors (P,), with their `norms` and `cosines`.
    Raises:
        ValueError: if a choice is unknown, count is below 1, or every tensor would be ignored.
    Source: Li et al. 2018, section 4, arXiv:1712.09913.
    """
    integer_in("count", count, 1)
    source, w = random_source(generator), problem.vector()
    if problem.shards is None:
        draws = [
            torch.randn(problem.size, generator=source, dtype=w.dtype, device=source.device).to(w.device)
            for _ in range(count)
        ]
    else:
        draws = [problem.shards.normal(1, source)[0].to(w) for _ in range(count)]
    scaled = [normalize_direction(problem, d, normalize=normalize, ignore=ignore) for d in draws]
    chosen = orthogonalised(scaled, problem.shards) if orthogonal else scaled
    return Directions(chosen, problem.shards, kind="random", normalize=normalize, ignore=ignore, orthogonal=orthogonal)
