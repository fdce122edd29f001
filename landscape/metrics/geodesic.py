"""Geodesic sharpness: the worst case in a ball that the symmetries of a network do not change.

For a pair of matrices that matters only through G Hᵀ the ball is taken in the quotient by G → G A, H → H A⁻ᵀ:
displacements ξ are horizontal (orthogonal to the orbits) in an invariant metric, and the step follows the geodesic:
exactly where the pair is entrywise, u v of single numbers, else to second order, w + ξ − ½ Γ(ξ, ξ). All other entries
have the adaptive metric (ξ / |w|)². With primes for transposes:

inv metric  tr((G'G)⁻¹ a'b) + tr((H'H)⁻¹ c'd),   Γ_G = −ξ(G'G)⁻¹(ξ'G + G'ξ) + G(G'G)⁻¹ξ'ξ, Γ_H likewise;
mix metric  tr((H'H) a'b) + tr((G'G) c'd),       Γ_G = ξ_G(ξ_H'H + H'ξ_H)(H'H)⁻¹ − G(ξ_H'ξ_H)(H'H)⁻¹, Γ_H likewise;
horizontal  (ξ_G + GΛ, ξ_H − HΛ'), mix: Λ = ½(ξ_H'H(H'H)⁻¹ − (G'G)⁻¹G'ξ_G); inv: AX + XA = B, Λ = X', A = G'G H'H,
B = G'G H'ξ_H − ξ_G'G H'H;
entrywise   b = ξ_u / u = ξ_v / v; inv: u e^b, v e^b; mix: u sqrt(1 + 2b), v sqrt(1 + 2b), which end at u v = 0.
Source: da Silva, Dangel and Oore 2025, "Hide & Seek", arXiv:2505.05409; its printed equation for Λ in the inv metric
is a misprint, the one above was derived anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from landscape.checks import integer_in, not_negative, one_of, positive
from landscape.metrics.ascent import STEPS
from landscape.metrics.balls import Ball
from landscape.metrics.invariant_pairs import Pair, pairs_by_name
from landscape.metrics.low_rank_pairs import pairs_found
from landscape.metrics.metric import Origin, measured
from landscape.metrics.worst_case import largest_rise
from landscape.problem import Problem
from landscape.side_effects import random_source
from landscape.storage.results import Estimate
from landscape.vectors import Vector, normal_like, unit

BEND = 0.5  # of |Γ| / |ξ|, our choice: there the series of sqrt(1 + 2b) is 10 % off


@measured
def geodesic(
    problem: Problem,
    *,
    rho: float = 0.05,
    metric: str = "mix",
    weight_pairs: Sequence[tuple[str, str]] | None = None,
    steps: int = STEPS,
    restarts: int = 0,
    relax: float = 0.0,
    origin: Origin | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    """Largest rise of the loss found in the geodesic ball of radius rho.

    Args:
        problem: the scalar function.
        rho: radius in the metric, positive. It has no unit in "inv" and in the adaptive metric; the part of the pairs
            in "mix" has that of their product, weight²: rho is to be chosen for the sizes of G Hᵀ at hand.
        metric: "mix" | "inv", for the pairs.
        weight_pairs: (first, second) names of parameters that matter only through their product, matrices as first @
            second, vectors entrywise; default the query-key and value-output pairs of the attention modules, the two
            matrices of LoRA and other pairs of low rank, by name. Without any pair this is `worst_case_gap` in the
            adaptive ball with eta = 0.
        steps, restarts: of the ascent, as in `worst_case_gap`.
        relax: of matrix pairs: added to the diagonals of G'G and H'H, in weight², as in the paper's appendix; serves
            dependent columns (LoRA's B = 0) and breaks the invariance by as much as it changes the inverses.
        origin: loss and gradient at w, if known already.
        generator: for random starts; default seed 0.
    Returns:
        Estimate of a lower bound of the maximum, at least 0, stderr 0. Details: pairs, how many matrices were paired;
        bend, |Γ| / |ξ| of the matrix pairs where the maximum was found, 0 without any; steps, last_gain and converged
        as in `worst_case_gap`.
    Raises:
        ValueError: if an argument is out of range, a paired matrix has dependent columns, or bend is above 0.5: rho is
            too large for the expansion.
    """
    positive("rho", rho)
    one_of("metric", metric, ("mix", "inv"))
    integer_in("steps", steps, 1)
    integer_in("restarts", restarts, 0)
    not_negative("relax", relax)
    found = pairs_found(problem, relax) if weight_pairs is None else pairs_by_name(problem, weight_pairs)
    region = GeodesicBall(rho, problem.vector(), found, metric, relax)
    climb = largest_rise(problem, region, steps, restarts, origin, random_source(generator))
    bend = region.bend(climb.e)
    if bend > BEND:
        raise ValueError(
            f"rho must be small enough for the second order of the geodesic, got {rho!r}, where |Γ| is {bend:.2g} |ξ|, "
            f"above {BEND}; try a smaller rho"
        )
    return Estimate.exact(climb.gap, 0, pairs=float(sum(len(pair.G) for pair in found)), bend=bend, **climb.details)


@dataclass(eq=False)
class GeodesicBall(Ball):
    """Horizontal ξ with |ξ|_w <= rho; `displacement` is where the geodesic leads.

    Of entrywise pairs in "mix" only what lies before the geodesic's end, b >= −½ but for rounding.
    """

    rho: float
    w: Tensor  # (P,)
    pairs: Sequence[Pair]
    metric: str
    relax: float = 0.0
    scale: Tensor = field(init=False)  # |w|, 0 on paired entries, (P,)
    grams: list[tuple[Tensor, Tensor]] = field(init=False)  # G'G and H'H, relaxed, (B, r, r)

    def __post_init__(self) -> None:
        self.scale = self.w.abs()
        self.grams = []
        for pair in self.pairs:
            self.scale[pair.G.flatten()] = 0
            self.scale[pair.H.flatten()] = 0
            grams = [m.transpose(1, 2) @ m for m in (self.w[pair.G], self.w[pair.H])]
            if not pair.entrywise:
                grams = [gram + self.relax * torch.eye(gram.shape[1]).to(gram) for gram in grams]
            for gram in grams:  # squares of singular values: 1e-6 is some units in the last place of float32 weights
                if bool((torch.linalg.eigvalsh(gram)[:, 0] <= 1e-12 * gram.diagonal(dim1=1, dim2=2).sum(1)).any()):
                    raise ValueError("paired matrices must have independent columns; relax them or leave this pair out")
            self.grams.append((grams[0], grams[1]))

    def _raised(self, g: Vector) -> Vector:
        """The Riemannian gradient."""
        raised = self.scale**2 * g
        for pair, (GG, HH) in zip(self.pairs, self.grams, strict=True):
            if self.metric == "inv":
                at_G, at_H = g[pair.G] @ GG, g[pair.H] @ HH
            else:
                at_G, at_H = _divided(g[pair.G], HH), _divided(g[pair.H], GG)
            raised[pair.G], raised[pair.H] = at_G, at_H
        return raised

    def first_order(self, g: Vector) -> Vector:
        """rho times the unit Riemannian gradient; g of an invariant loss makes it horizontal of itself."""
        return self._on_boundary(self._raised(g))

    def ascent(self, g: Vector) -> Vector:
        raised = self._raised(g)
        length = self.length(raised)
        return raised * (self.rho / length) if length > 0 else torch.zeros_like(g)

    def pulled_back(self, e: Vector) -> Vector:
        e = self.horizontal(e)
        kept = self._kept(e)
        return self._on_boundary(e) if self.length(kept) > self.rho else kept

    def boundary_point(self, source: torch.Generator) -> Vector:
        return self._on_boundary(self.horizontal(self._raised(unit(normal_like(self.w, source)))))

    def _on_boundary(self, e: Vector) -> Vector:
        """t e, kept before the geodesics' ends, with t such that its length is rho: the nearest point of the ball."""
        before, length, kept = 0.0, self.length(e), torch.zeros_like(e)
        close = max(1e-9, 32 * torch.finfo(e.dtype).eps) * self.rho  # a length's rounding must not go on for ever
        while length > 0 and abs(length - before) > close:
            e = e * (self.rho / length)
            kept = self._kept(e)
            before, length = length, self.length(kept)  # what is cut off makes it shorter: t grows
        return kept

    def length(self, e: Vector) -> float:
        """|ξ|_w."""
        total = torch.where(self.scale > 0, e / self.scale, 0.0).square().sum()
        for pair, (GG, HH) in zip(self.pairs, self.grams, strict=True):
            a, c = e[pair.G], e[pair.H]
            if self.metric == "inv":
                total = total + (_divided(a, GG) * a).sum() + (_divided(c, HH) * c).sum()
            else:
                total = total + ((a @ HH) * a).sum() + ((c @ GG) * c).sum()
        return float(total.sqrt())

    def horizontal(self, e: Vector) -> Vector:
        """The part of ξ that is orthogonal to the orbits of the symmetry."""
        e = e.clone()
        for pair, (GG, HH) in zip(self.pairs, self.grams, strict=True):
            G, H, a, c = self.w[pair.G], self.w[pair.H], e[pair.G], e[pair.H]
            if self.metric == "mix":
                turn = 0.5 * (_divided(_t(c) @ H, HH) - torch.linalg.solve(GG, _t(G) @ a))
            else:
                turn = _t(_sylvester(GG, HH, GG @ _t(H) @ c - _t(a) @ G @ HH))
            e[pair.G], e[pair.H] = a + G @ turn, c - H @ _t(turn)
        return e

    def displacement(self, e: Vector) -> Vector:
        """Where the geodesic leads, differentiable in ξ."""
        moved = e
        for pair, grams in zip(self.pairs, self.grams, strict=True):
            G, H, a, c = self.w[pair.G], self.w[pair.H], e[pair.G], e[pair.H]
            if pair.entrywise:
                beyond_G, beyond_H = G * self._growth(a / G, c / H) - a, H * self._growth(c / H, a / G) - c
            else:
                beyond_G, beyond_H = (-0.5 * bend for bend in self._christoffel(G, H, a, c, grams))
            moved = moved.index_add(0, pair.G.flatten(), beyond_G.flatten())
            moved = moved.index_add(0, pair.H.flatten(), beyond_H.flatten())
        return moved

    def bend(self, e: Vector) -> float:
        """|Γ(ξ, ξ)| / |ξ| over the matrix pairs, both in the metric."""
        along, bent = torch.zeros_like(e), torch.zeros_like(e)
        for pair, grams in zip(self.pairs, self.grams, strict=True):
            if not pair.entrywise:
                along[pair.G], along[pair.H] = e[pair.G], e[pair.H]
                G, H = self.w[pair.G], self.w[pair.H]
                bent[pair.G], bent[pair.H] = self._christoffel(G, H, e[pair.G], e[pair.H], grams)
        length = self.length(along)
        return self.length(bent) / length if length > 0 else 0.0

    def _growth(self, own: Tensor, other: Tensor) -> Tensor:
        """u(1) / u − 1 of an entrywise pair; own is ξ_u / u, which for horizontal ξ is the other's too."""
        if self.metric == "inv":
            return own.expm1()
        return (1 + own + other).clamp(min=torch.finfo(own.dtype).eps).sqrt() - 1

    def _kept(self, e: Vector) -> Vector:
        """The part of ξ before the geodesic's end."""
        if self.metric == "mix":
            for pair in self.pairs:
                if pair.entrywise:
                    e = e.clone()
                    least = torch.finfo(e.dtype).eps - 0.5  # u v stays above 0, and the slope finite
                    for at in (pair.G, pair.H):
                        e[at] = self.w[at] * (e[at] / self.w[at]).clamp(min=least)
        return e

    def _christoffel(
        self, G: Tensor, H: Tensor, a: Tensor, c: Tensor, grams: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        if self.metric == "inv":
            return _inv_christoffel(G, a, grams[0]), _inv_christoffel(H, c, grams[1])
        return _mix_christoffel(G, H, a, c, grams[1]), _mix_christoffel(H, G, c, a, grams[0])

    def slope(self, e: Vector, g: Vector) -> Vector:
        """The gradient in ξ, given the gradient g at w + displacement(ξ)."""
        leaf = e.detach().clone().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(self.displacement(leaf), leaf, g)[0]


def _inv_christoffel(G: Tensor, a: Tensor, GG: Tensor) -> Tensor:
    return G @ torch.linalg.solve(GG, _t(a) @ a) - _divided(a, GG) @ (_t(a) @ G + _t(G) @ a)


def _mix_christoffel(G: Tensor, H: Tensor, a: Tensor, c: Tensor, HH: Tensor) -> Tensor:
    return _divided(a @ (_t(c) @ H + _t(H) @ c) - G @ (_t(c) @ c), HH)


def _sylvester(M: Tensor, N: Tensor, B: Tensor) -> Tensor:
    """X with A X + X A = B for A = M N, both positive definite, batched.

    With M = L L' and L'N L = U D U', A has the eigenvectors V = L U and eigenvalues D > 0.
    """
    L = torch.linalg.cholesky(M)
    D, U = torch.linalg.eigh(_t(L) @ N @ L)
    V = L @ U
    rotated = torch.linalg.solve(V, B @ V)
    return _divided(V @ (rotated / (D[:, :, None] + D[:, None, :])), V)


def _divided(block: Tensor, matrix: Tensor) -> Tensor:
    """block matrix⁻¹."""
    return torch.linalg.solve(matrix, block, left=False)


def _t(block: Tensor) -> Tensor:
    return block.transpose(-1, -2)
