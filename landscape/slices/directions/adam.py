"""Adam's moments as directions: where the optimizer is heading, and how large its gradients are.

m = exp_avg, the running mean of gradients, and √v = √exp_avg_sq, their running root mean square, entry by entry.
Source: Kingma & Ba 2015, arXiv:1412.6980.
"""

from typing import Any

import torch
from torch import Tensor

from landscape.checks import require
from landscape.problem import Problem
from landscape.slices.directions.direction_set import Directions, orthogonalised
from landscape.slices.directions.normalization import normalize_direction
from landscape.vectors import flatten


def adam_directions(
    problem: Problem,
    optimizer: torch.optim.Optimizer,
    *,
    normalize: str | None = "model",
    ignore: str | None = None,
    orthogonal: bool = False,
) -> Directions:
    """m and √v of an optimizer of Adam's family that has trained the problem's network.

    Args:
        problem: the scalar function; its data is not read.
        optimizer: one whose state holds "exp_avg" and "exp_avg_sq", such as torch.optim.AdamW.
        normalize: see `normalize_direction`; default: each vector as it is, with the norm of the weights.
        ignore: the same.
        orthogonal: make √v orthogonal to m, of the same length.
    Returns:
        Two vectors (P,).
    Raises:
        ValueError: if a parameter of the problem has no moments.
    """
    own: dict[str, Any] = {
        name: optimizer.state.get(p, {}) for name, p in problem.model.named_parameters() if name in problem.layout.names
    }
    lacking = [name for name, state in own.items() if not {"exp_avg", "exp_avg_sq"} <= state.keys()]
    require(
        not lacking,
        f"optimizer must hold Adam's moments of every parameter, has none of {lacking[:3]}; take a step with it first",
    )
    like = problem.require_whole("the directions of Adam").vector()
    moments: list[Tensor] = [
        flatten([state["exp_avg"] for state in own.values()]).to(like),
        flatten([state["exp_avg_sq"].sqrt() for state in own.values()]).to(like),
    ]
    scaled = [normalize_direction(problem, d, normalize=normalize, ignore=ignore) for d in moments]
    chosen = orthogonalised(scaled) if orthogonal else scaled
    return Directions(chosen, kind="adam", normalize=normalize, ignore=ignore, orthogonal=orthogonal)
