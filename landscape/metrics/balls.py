"""The balls in which a worst case is sought: where their first-order maximiser lies, and how to get back inside.

Scaled balls |T⁻¹e|_p <= rho have a diagonal T: Euclidean T = 1, adaptive T = |w| + eta, filter-wise |filter| + eta, the
diagonal of Fisher SAM T = (1 + eta g²)^(-1/2). In u = T⁻¹e the ball is round and the gradient is Tg, so that ascent is
along T²g and a weight of zero stays zero. The Fisher ellipsoid eᵀFe <= rho² has its maximiser along F⁻¹g, which
conjugate gradients find.
Source: Foret et al. 2021, arXiv:2010.01412; Kwon et al. 2021, arXiv:2102.11600; Kim et al. 2022, arXiv:2206.04920.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from math import inf

import torch
from torch import Tensor

from landscape.checks import norm_order, not_negative, one_of, positive, require
from landscape.curvature import fisher
from landscape.linalg import trace
from landscape.linalg.operator import CurvatureOperator
from landscape.linalg.solve import solve
from landscape.problem import Problem
from landscape.processes.space import Space
from landscape.vectors import Vector, filter_norms, normal_like, steepest

GEOMETRIES = ("euclidean", "adaptive", "adaptive_filter", "fisher", "fisher_diagonal")
# damping in units of the Fisher matrix's mean eigenvalue, our choice: above the rounding of its products (in float32
# two units in the last place), below the 1e-6 that the docstring promises, as is the cutoff
RELATIVE_DAMPING = {torch.float64: 1e-10}
RELATIVE_DAMPING_SINGLE = 2.5e-7
DAMPING_PRODUCTS = 8  # for that mean: Hutchinson is then off by √(2/8) of it at most, a standard deviation
SOLVED = 1e-8  # residual of a linear system, of its right side, below which it is solved
RELATIVE_CUTOFF = 5e-7  # directions of lower eigenvalues are left out of an ascent, where they would go on for ever


class Ball(ABC):
    """A centred ball of displacements e (P,)."""

    @abstractmethod
    def first_order(self, g: Vector) -> Vector:
        """The maximiser of <e, g> in the ball; zero for g = 0."""

    def ascent(self, g: Vector) -> Vector:
        """The way to go from a point of the ball where the gradient is g, as long as the ball is wide."""
        return self.first_order(g)

    def displacement(self, e: Vector) -> Vector:
        """Where e leads from w; in a flat ball e itself."""
        return e

    def slope(self, e: Vector, g: Vector) -> Vector:  # noqa: ARG002  (a flat ball is the same everywhere)
        """The gradient in e, given the gradient g at w + displacement(e)."""
        return g

    @abstractmethod
    def pulled_back(self, e: Vector) -> Vector:
        """`e` itself if it lies in the ball, else a point of its boundary towards e."""

    @abstractmethod
    def boundary_point(self, source: torch.Generator) -> Vector:
        """A random point of the boundary."""


@dataclass(frozen=True, eq=False)
class ScaledBall(Ball):
    """|T⁻¹e|_p <= rho."""

    rho: float
    scale: Tensor  # diagonal of T, (P,), not negative
    p: float = 2
    space: Space | None = None  # of (P,), where it is dealt out

    def first_order(self, g: Vector) -> Vector:
        u = self.scale * g
        if self.space is None or self.p == inf:
            return self.rho * self.scale * steepest(u, self.p)
        return self.rho * self.scale * (u / self.space.norms(u).clamp(min=torch.finfo(u.dtype).tiny))

    def pulled_back(self, e: Vector) -> Vector:
        u = torch.where(self.scale > 0, e / self.scale, 0.0)
        if self.p == inf:
            return self.scale * u.clamp(-self.rho, self.rho)
        length = torch.linalg.vector_norm(u, self.p) if self.space is None else self.space.norms(u)
        return e * (self.rho / length).clamp(max=1)

    def boundary_point(self, source: torch.Generator) -> Vector:
        z = normal_like(self.scale, source) if self.space is None else self.space.normal(1, source)[0].to(self.scale)
        return self.first_order(z)


@dataclass(eq=False)
class FisherBall(Ball):
    """eᵀFe <= rho² for the exact Fisher matrix F of the whole data, held at w.

    F is singular in most networks: the ball has no end along directions that do not change the outputs at w. The
    gradient at w has no part there, one elsewhere may have, and the ascent must not follow it.
    """

    rho: float
    operator: CurvatureOperator
    damping: float
    cutoff: float
    max_matvecs: int
    matvecs: int = field(default=0, init=False)
    residual: float = field(default=0.0, init=False)  # the largest of its systems, of |right side|: SOLVED or not

    def first_order(self, g: Vector) -> Vector:
        x = self._solved(g, self.damping)
        length = (g @ x).clamp(min=0).sqrt()  # (xᵀ(F + δ)x)^½: xᵀFx is at most that
        return self.rho * x / length if length > 0 else torch.zeros_like(g)

    def ascent(self, g: Vector) -> Vector:
        """Along λ/(λ + δ)² in each eigenvector of F: F⁻¹ where λ is far above the cutoff δ, 0 where λ is 0."""
        return self._on_boundary(self._solved(self._solved(self._image(g), self.cutoff), self.cutoff))

    def pulled_back(self, e: Vector) -> Vector:
        length = self.length(e)
        return e * (self.rho / length) if length > self.rho else e

    def boundary_point(self, source: torch.Generator) -> Vector:
        z = torch.empty(self.operator.shape[0], dtype=self.operator.dtype, device=self.operator.device)
        return self._on_boundary(self._image(normal_like(z, source)))

    def length(self, e: Vector) -> float:
        """(eᵀFe)^½; one product."""
        return float((e @ self._image(e)).clamp(min=0).sqrt())

    def _on_boundary(self, e: Vector) -> Vector:
        length = self.length(e)
        return e * (self.rho / length) if length > 0 else torch.zeros_like(e)

    def _solved(self, g: Vector, damping: float) -> Vector:
        solution = solve(self.operator, g, damping=damping, tol=SOLVED, max_matvecs=self.max_matvecs)
        self.matvecs += solution.matvecs
        self.residual = max(self.residual, solution.relative_residual)
        return solution.x

    def _image(self, e: Vector) -> Vector:
        self.matvecs += 1
        return self.operator.matvec(e)


def ball(
    problem: Problem, gradient: Tensor, *, rho: float, geometry: str, p: float, eta: float, max_matvecs: int = 500
) -> Ball:
    """The ball of that geometry around the model's own weights.

    Raises:
        ValueError: if rho is not positive, the geometry unknown, p below 1 (or not 2 for the Fisher balls).
    """
    positive("rho", rho)
    one_of("geometry", geometry, GEOMETRIES)
    not_negative("eta", eta)
    norm_order("p", p)
    require(p == 2 or not geometry.startswith("fisher"), f"p must be 2 for geometry {geometry!r}, got {p!r}")
    if problem.shards is not None:
        require(p in (2, inf), f"p must be 2 or inf for a sharded model, got {p!r}")
        one_of("geometry of a sharded model", geometry, ("euclidean", "adaptive", "fisher_diagonal"))
    if geometry == "fisher":
        operator = fisher(problem)
        products = min(problem.size, DAMPING_PRODUCTS)
        mean = max(
            float(trace(operator, matvecs=products, method="hutchinson", progress=False).value) / problem.size, 0.0
        )
        damping = RELATIVE_DAMPING.get(operator.dtype, RELATIVE_DAMPING_SINGLE)
        return FisherBall(rho, operator, damping * mean, RELATIVE_CUTOFF * mean, max_matvecs)
    return ScaledBall(rho, _scale(problem, gradient, geometry, eta), p, problem.shards)


def _scale(problem: Problem, gradient: Tensor, geometry: str, eta: float) -> Tensor:
    if geometry == "adaptive":
        return problem.vector().abs() + eta
    if geometry == "adaptive_filter":
        return filter_norms(problem.vector(), problem.layout) + eta
    if geometry == "fisher_diagonal":
        return (1 + eta * gradient**2).rsqrt()
    return torch.ones_like(gradient)
