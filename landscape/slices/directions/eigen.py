"""Hessian eigenvectors as directions: the plane in which the loss bends most.

L(w + x v) ≈ L(w) + x gᵀv + ½ λ x² for a unit eigenvector v; a filter-normalised v would be an eigenvector no more.
So a whole vector is scaled: by √(2/|λ|), after which a step of 1 changes the quadratic model by one unit of loss. Its
contours in a plane of two positive eigenvalues are circles, and what departs from circles is not quadratic.
Source: Yao et al. 2020, "PyHessian", arXiv:1912.07145 (landscapes along eigenvectors, there of unit length).
"""

import torch
from torch import Tensor

from landscape.checks import one_of, require
from landscape.curvature import hessian
from landscape.linalg import top_eigenpairs
from landscape.problem import Problem
from landscape.processes.space import Space
from landscape.slices.directions.direction_set import Directions
from landscape.storage.results import EigenPairs

SCALES = ("curvature", "model", None)


def hessian_directions(
    problem: Problem,
    count: int = 2,
    *,
    pairs: EigenPairs | None = None,
    scale: str | None = "curvature",
    which: str = "LA",
    generator: torch.Generator | None = None,
) -> Directions:
    """The leading Hessian eigenvectors at the problem's weights, orthogonal to each other.

    Args:
        problem: the scalar function.
        count: how many.
        pairs: eigenpairs that are known already, of the same problem; the first `count` are used.
        scale: "curvature": length √(2/|λ|), a step of 1 changes the quadratic model by one unit of loss. "model": |w|,
            as normalize="model" has it. None: unit length.
        which: as `top_eigenpairs` has it, where `pairs` is not given.
        generator: of the eigensolver's start; default seed 0.
    Returns:
        `count` vectors (P,), the largest entry of each positive; `details` has eigenvalues and residuals.
    Raises:
        ValueError: if a choice is unknown, `pairs` does not fit, or an eigenvalue is 0 under "curvature".
    """
    one_of("scale", scale, SCALES)
    if pairs is None:
        pairs = top_eigenpairs(hessian(problem), count, which=which, generator=generator)
    space = problem.space
    expected, got = (space.own, count), tuple(pairs.vectors.shape)
    require(got[0] == expected[0] and got[1] >= count, f"pairs must hold vectors of shape {expected}, got {got}")
    values = pairs.values[:count]
    require(
        scale != "curvature" or bool((values.abs() > 0).all()),
        f"scale='curvature' needs eigenvalues that are not 0, got {values.tolist()}; pass scale='model'",
    )
    w = problem.vector()
    lengths = {"curvature": (2 / values.abs()).sqrt(), "model": space.norms(w).expand(count)}.get(scale or "")
    vectors = [_oriented(v, space) for v in pairs.vectors[:, :count].to(w).T]
    if lengths is not None:
        vectors = [float(length) * v for length, v in zip(lengths, vectors, strict=True)]
    residuals = pairs.residuals[:count].tolist()
    return Directions(
        vectors, problem.shards, kind="hessian", scale=scale, eigenvalues=values.tolist(), residuals=residuals
    )


def _oriented(v: Tensor, space: Space) -> Tensor:
    """v or −v: an eigenvector's sign means nothing, and should not change a figure."""
    if not space.dealt_out:
        return v * torch.where(v[v.abs().argmax()] < 0, -1.0, 1.0).to(v)
    above, below = (space.largest(max(side.tolist(), default=0.0)) for side in (v, -v))
    return -v if below > above else v
