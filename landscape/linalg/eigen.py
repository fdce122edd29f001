"""Eigenpairs of a symmetric operator by thick-restart Lanczos with full reorthogonalisation and residual bounds.

The basis V obeys A V = V H + r eᵀ with H = Vᵀ A V filled column by column. Ritz pairs (θ, V s) of H have the residual
|A V s − θ V s| = |r| |s_last|, known without a product; for a symmetric A an eigenvalue lies within it of θ. When the
basis is full it is cut back to the wanted Ritz vectors, and H goes on from there exactly.
Source: Wu and Simon 2000, "Thick-restart Lanczos method for large symmetric eigenvalue problems"; Stewart 2001.
"""

import torch
from torch import Tensor

from landscape.checks import integer_in, one_of, positive, require, vector_like
from landscape.isolation import random_source
from landscape.linalg.lanczos import breakdown_level, orthogonalise
from landscape.linalg.probes import gaussian
from landscape.operator import CurvatureOperator
from landscape.results import EigenPairs


def top_eigenpairs(
    operator: CurvatureOperator,
    k: int = 10,
    *,
    which: str = "LM",
    tol: float = 1e-4,
    max_matvecs: int | None = None,
    start: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> EigenPairs:
    """The k eigenpairs at one end of the spectrum.

    Args:
        operator: symmetric, (P, P).
        k: how many, in [1, P].
        which: "LM" largest magnitude | "LA" largest algebraic | "SA" smallest algebraic.
        tol: a pair has converged when its residual is at most tol · max(|θᵢ|, eps^(2/3) |θ|max).
        max_matvecs: products at most; default max(1000, 10 k).
        start: starting vector, (P,), for instance an eigenvector of a nearby operator; default random. What it leads to
            is believed only after 20 further products, in case it is an eigenvector of a lower eigenvalue.
        generator: for the starting vector and after breakdowns; default seed 0.
    Returns:
        Always k pairs, in the order of `which`; those that `max_matvecs` left unconverged have converged = False. If it
        is below k, the pairs without a product repeat the last value with an infinite residual. An eigenvalue of exact
        multiplicity comes as often as it is only if the Krylov space closes, as for projections or the identity: a
        single starting vector does not tell copies apart.
    Raises:
        ValueError: if an argument is out of range, or the operator gives NaN or infinity.
    """
    size = operator.shape[0]
    integer_in("k", k, 1, size)
    one_of("which", which, ("LM", "LA", "SA"))
    positive("tol", tol)
    limit = max(1000, 10 * k) if max_matvecs is None else max_matvecs
    integer_in("max_matvecs", limit, 1)
    krylov = _Krylov(operator, min(size, max(2 * k + 20, 40)), which, start, random_source(generator))
    check_at = k
    while True:
        krylov.extend()
        spent = krylov.matvecs >= limit or krylov.count == size
        if krylov.closed or krylov.full or spent or krylov.count >= check_at:
            values, coordinates, residuals, floor = krylov.ritz()
            converged = residuals <= tol * _scale(values, operator)
            settled = converged | (residuals <= 2 * floor)  # in this precision more products do not help
            done = krylov.count >= k and bool(settled[:k].all()) and krylov.outlasted(values[:k], residuals[:k])
            if spent or done:
                return _pairs(krylov, values, coordinates, residuals, converged, k)
            if krylov.closed:
                krylov.begin_block()
            if krylov.full:
                krylov.restart(coordinates, keep=k + (krylov.count - k) // 2)
            check_at = max(k, krylov.count + max(1, krylov.count // 20))


class _Krylov:
    """A growing orthonormal basis V, its H = Vᵀ A V, and what a closed Krylov space (a breakdown) asks for.

    A closed space holds one eigenvector of each eigenvalue, or fewer if the caller chose the start. So a new block is
    begun with a random vector, and the run ends only when the leading values outlast a window of further products.
    """

    def __init__(
        self, operator: CurvatureOperator, capacity: int, which: str, start: Tensor | None, source: torch.Generator
    ) -> None:
        self.operator, self.which, self.source = operator, which, source
        self.basis = torch.empty(capacity + 1, operator.shape[0], dtype=operator.dtype, device=operator.device)
        self.h = torch.zeros(capacity + 1, capacity, dtype=torch.float64)
        self.count = self.matvecs = 0
        self.closed = False
        self.window = 0 if start is None else 20  # products that the leading values must outlast
        self.block = self.since = 0  # products when the present block began, and when `known` was new
        self.known = self.error = torch.empty(0, dtype=torch.float64)  # leading values and their residuals
        if start is None:
            self._append_random()
        else:
            vector_like("start", start, self.basis[0])
            norm = start.norm()
            require(bool(norm > 0) and bool(norm.isfinite()), "start must be finite and not zero; leave it out")
            self.basis[0] = start / norm

    @property
    def full(self) -> bool:
        return self.count == self.h.shape[1]

    def extend(self) -> None:
        """One product: a new column of H and the next basis vector."""
        j = self.count
        rest, along = orthogonalise(self.operator.matvec(self.basis[j])[None], self.basis[None, : j + 1])
        residual = rest.norm().cpu().double()
        require(bool(residual.isfinite()), "the operator gave NaN or infinity; check the loss and the weights")
        self.h[: j + 1, j] = along[0].cpu().double()
        self.count, self.matvecs = j + 1, self.matvecs + 1
        self.closed = bool(residual <= breakdown_level(self.operator, self.h.abs().max()))
        if not self.closed:
            self.h[j + 1, j] = residual
            self.basis[j + 1] = rest[0] / residual

    def ritz(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Ritz values (m,) in the wanted order, their coordinates (m, m) as columns, residual bounds (m,), and how much
        of these is rounding (m,)."""
        m = self.count
        h = self.h[:m, :m]
        symmetric = (h + h.T) / 2
        values, coordinates = torch.linalg.eigh(symmetric)
        order = {"LM": -values.abs(), "LA": -values, "SA": values}[self.which].argsort(stable=True)
        values, coordinates = values[order], coordinates[:, order]
        rounding = 10 * torch.finfo(self.operator.dtype).eps * values.abs().max()
        truncation = self.h[m, m - 1] * coordinates[m - 1]
        asymmetry = ((h - symmetric) @ coordinates).norm(dim=0)  # noise of the products shows here
        return values, coordinates, (truncation**2 + asymmetry**2).sqrt() + rounding, asymmetry + rounding

    def outlasted(self, values: Tensor, residuals: Tensor) -> bool:
        """Whether the leading values stayed as they were, within their residuals, for the window or a closed block."""
        if self.window == 0:
            return not self.closed
        same = len(self.known) > 0 and bool(((values - self.known).abs() <= self.error + residuals).all())
        if not same:
            self.known, self.error, self.since = values, residuals, self.matvecs
        return same and (self.closed or self.matvecs - self.since >= self.window)

    def begin_block(self) -> None:
        """Go on with a random vector orthogonal to the closed space; the window is as long as the longest block."""
        self.window = max(self.window, self.matvecs - self.block)
        self.block = self.matvecs
        self._append_random()

    def restart(self, coordinates: Tensor, keep: int) -> None:
        """Cut the basis back to the leading `keep` Ritz vectors and the next Lanczos vector."""
        m = self.count
        kept = coordinates[:, :keep]
        self.basis[:keep] = kept.T.to(self.basis) @ self.basis[:m]
        self.basis[keep] = self.basis[m]
        inner, coupling = kept.T @ self.h[:m] @ kept, self.h[m, m - 1] * kept[m - 1]
        self.h.zero_()
        self.h[:keep, :keep], self.h[keep, :keep] = inner, coupling
        self.count = keep

    def orthogonal_vector(self, basis: Tensor) -> Tensor:
        """A random unit vector orthogonal to the rows of `basis` (m, P)."""
        fresh = gaussian(self.operator, 1, self.source).T
        rest, _ = orthogonalise(fresh, basis[None])
        return rest[0] / rest.norm()

    def _append_random(self) -> None:
        self.basis[self.count] = self.orthogonal_vector(self.basis[: self.count])


def _scale(values: Tensor, operator: CurvatureOperator) -> Tensor:
    """max(|θᵢ|, eps^(2/3) |θ|max), (m,): what a residual is compared with."""
    floor = torch.finfo(operator.dtype).eps ** (2 / 3) * values.abs().max()
    return values.abs().maximum(floor)


def _pairs(
    krylov: _Krylov, values: Tensor, coordinates: Tensor, residuals: Tensor, converged: Tensor, k: int
) -> EigenPairs:
    like, found = krylov.basis, min(k, krylov.count)
    vectors = coordinates[:, :found].T.to(like) @ like[: krylov.count]  # (found, P)
    for _ in range(k - found):
        vectors = torch.cat([vectors, krylov.orthogonal_vector(vectors)[None]])
    missing = torch.full((k - found,), float("inf"), dtype=torch.float64)
    return EigenPairs(
        values=torch.cat([values[:found], values[found - 1 : found].expand(k - found)]).to(like),
        vectors=vectors.T.contiguous(),
        residuals=torch.cat([residuals[:found], missing]).to(like),
        converged=torch.cat([converged[:found], torch.zeros(k - found, dtype=torch.bool)]).to(like.device),
        matvecs=krylov.matvecs,
    )
