"""Directions rescaled to the weights, so that a step means the same for networks of any weight scale.

Filter normalisation: d_i ← d_i |w_i| / (|d_i| + 1e-10) for each slice i along axis 0 of each tensor with two or more
axes (a convolution's output filter, a linear row). Source: Li et al. 2018, "Visualizing the loss landscape of neural
nets", section 4, arXiv:1712.09913, with the details of the authors' code: directions are not made orthogonal, and
nothing is rescaled later, so that a step of 1 moves every filter by its own norm.
"""

import torch
from torch import Tensor

from landscape.checks import one_of, require, vector_like
from landscape.problem import Problem
from landscape.processes.space import Space
from landscape.vectors import Vector, flatten

NORMALIZATIONS = ("filter", "layer", "model", None)
_TINY = 1e-10  # as in the authors' code: a zero draw stays zero


def normalize_direction(
    problem: Problem, direction: Tensor, *, normalize: str | None = "filter", ignore: str | None = "bias_norm"
) -> Vector:
    """A direction of one's own, rescaled to the problem's weights.

    Args:
        problem: the scalar function; its data is not read.
        direction: d, (P,).
        normalize: what is rescaled to the norm of its own weights: each "filter", each "layer" (a whole parameter
            tensor), the "model" (the direction as one vector), or None for d as it is.
        ignore: "bias_norm" holds tensors with at most one axis (biases, scales and shifts of normalisation layers)
            still: direction 0. None moves them too: under "filter" and "layer" by d = w as in the authors' code,
            elsewhere like any other tensor.
    Returns:
        (P,). A filter whose direction is 0 stays where it is.
    Raises:
        ValueError: if a choice is unknown, the direction does not fit, every tensor would be ignored, or all weights
            are 0, to which nothing can be rescaled.
    Source: Li et al. 2018, section 4, arXiv:1712.09913.
    """
    one_of("normalize", normalize, NORMALIZATIONS)
    one_of("ignore", ignore, ("bias_norm", None))
    require(
        ignore is None or any(len(shape) > 1 for shape in problem.layout.shapes),
        "ignore='bias_norm' leaves no parameter with two or more axes; pass ignore=None",
    )
    w, space = problem.vector(), problem.space
    require(
        problem.shards is None or problem.shards.rows_are_whole or normalize != "filter",
        "normalize='filter' needs whole rows on each process, got a matrix cut along another axis; take 'layer'",
    )
    vector_like("direction", direction, w)
    pieces = []
    for d, own in zip(problem.layout.unflatten(direction), problem.layout.unflatten(w), strict=True):
        if own.numel() == 0 and (problem.shards is None or normalize != "layer"):
            pieces.append(own)
        elif own.ndim <= 1 and ignore == "bias_norm":
            pieces.append(torch.zeros_like(d))
        elif normalize in ("filter", "layer") and own.ndim <= 1:
            pieces.append(own)
        elif normalize == "filter":
            pieces.append(torch.stack([_rescaled(*pair) for pair in zip(d, own, strict=True)]))
        else:
            pieces.append(_rescaled(d, own, space) if normalize == "layer" else d)
    moved = flatten(pieces)
    found = _rescaled(moved, w, space) if normalize == "model" else moved
    free = any(bool(d.any()) for d in problem.layout.unflatten(direction) if d.ndim > 1 or ignore is None)
    require(
        space.any(bool(found.any())) or not space.any(free),
        f"normalize={normalize!r} gives a direction the norms of the weights, which are all 0 where it may move (as "
        "LoRA's B at the start); pass normalize=None",
    )
    return found


def _rescaled(d: Tensor, own: Tensor, space: Space | None = None) -> Tensor:
    """d with the norm of `own`; `space` where their entries may be dealt out."""
    norms = [part.norm() if space is None else space.norms(part.reshape(-1)) for part in (own, d)]
    factor: Tensor = norms[0] / (norms[1] + _TINY)
    return d * factor
