"""Directions between networks: the difference of two checkpoints, and the plane through three.

The plane through w_1, w_2, w_3 is w_1 + x d_1 + y d_2 with d_1 = w_2 − w_1 and d_2 the part of w_3 − w_1 orthogonal to
d_1, of the same length: distances in the plane are to scale, and 1 is the distance of the first two.
Source: Garipov et al. 2018, "Loss surfaces, mode connectivity, and fast ensembling of DNNs", appendix A.1,
arXiv:1802.10026 (there of unit length).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from landscape.checks import require, vector_like
from landscape.problem import Problem
from landscape.slices.directions.direction_set import PARALLEL, Directions
from landscape.vectors import Vector, flatten

Weights = nn.Module | Mapping[str, Tensor] | Tensor


def direction_to(problem: Problem, other: Weights) -> Vector:
    """w' − w: from the problem's network, x = 0, to another one, x = 1.

    Args:
        problem: the scalar function; its data is not read.
        other: a network of the same layout, its state dict, or a vector (P,). Parameters that the problem does not
            move, and buffers, are not looked at.
    Returns:
        (P,).
    Raises:
        ValueError: if a parameter is missing or of another shape.
    """
    return vector_of(problem, other) - problem.vector()


def vector_of(problem: Problem, other: Weights) -> Vector:
    """The weights of another network in the problem's layout, (P,), in its precision and on its device."""
    own = problem.require_whole("a direction between models").vector()
    if isinstance(other, Tensor):
        vector_like("other", other, own)
        return other.detach()
    named = dict(other.named_parameters(remove_duplicate=False)) if isinstance(other, nn.Module) else other
    missing = [name for name in problem.layout.names if name not in named]
    require(not missing, f"other must have the problem's parameters, lacks {missing[:3]}; it has {list(named)[:3]} ...")
    for name, shape in zip(problem.layout.names, problem.layout.shapes, strict=True):
        got = tuple(named[name].shape)
        require(got == tuple(shape), f"other: {name} must have shape {tuple(shape)}, got {got}")
    return flatten([named[name] for name in problem.layout.names]).to(own)


def plane_through(
    problem: Problem, second: Weights, third: Weights, *, orthogonal: bool = True
) -> tuple[Directions, Tensor]:
    """The plane through three networks.

    Args:
        problem: its network is the first, at the origin.
        second: a network, state dict or vector, see `direction_to`.
        third: the same.
        orthogonal: distances to scale, as above; else d_2 = w_3 − w_1, and the three lie at (0, 0), (1, 0), (0, 1).
    Returns:
        d_1 and d_2, and the coordinates of the three networks, (3, 2) float64.
    Raises:
        ValueError: if the three lie on a line, or one does not fit.
    """
    one, two = (direction_to(problem, other).double() for other in (second, third))
    length = one.norm()
    along = one @ two / length.square()
    rest = two - along * one
    require(
        bool(length > 0) and bool(rest.norm() > PARALLEL * two.norm()),
        "the three networks must span a plane, got three on one line; use slice_1d with direction_to",
    )
    away = rest.norm() / length
    d1, d2, corner = (one, rest / away, (float(along), float(away))) if orthogonal else (one, two, (0.0, 1.0))
    coordinates = torch.tensor([(0.0, 0.0), (1.0, 0.0), corner], dtype=torch.float64, device="cpu")
    own = problem.vector()
    vectors = [d1.to(own), d2.to(own)]
    return Directions(vectors, kind="models", orthogonal=orthogonal, coordinates=coordinates.tolist()), coordinates
