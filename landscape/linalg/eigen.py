"""Eigenpairs of a symmetric operator by thick-restart block Lanczos with full reorthogonalisation and residual bounds.

`Krylov` grows the basis; here is when to look, what to believe and when to stop. A closed Krylov space (a breakdown)
holds one eigenvector of each eigenvalue, or as many as the block is wide, or fewer if the caller chose the start. So a
new block is begun with random vectors, and the run ends only when the leading values outlast further products.
Source: Wu and Simon 2000, "Thick-restart Lanczos method for large symmetric eigenvalue problems"; Stewart 2001; Golub
and Underwood 1977, "The block Lanczos method for computing eigenvalues".
"""

from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

from landscape.checks import integer_in, one_of, positive, require
from landscape.linalg.basis import BasisOptions
from landscape.linalg.krylov import Krylov, Ritz
from landscape.linalg.lanczos import orthogonalise
from landscape.linalg.operator import CurvatureOperator
from landscape.linalg.probes import gaussian
from landscape.linalg.products_shown import EigenProgress, eigenpairs_shown
from landscape.linalg.scaled import Scaled, times_power
from landscape.linalg.starts import checked_starts, together
from landscape.processes.space import Space
from landscape.side_effects import random_source
from landscape.storage.array_checkpoint import ArrayCheckpoint, fingerprint
from landscape.storage.results import EigenPairs

# Products that what a caller's start leads to must outlast, twice what it takes: from the second of 300 eigenvectors
# the first was missed in 19 of 40 runs with 2, in none with 5; where .3 % lies between their values, also with 20.
WINDOW = 10
WIDEST = 4  # columns of a block that is chosen here: a wider one takes more products than it saves a column
SMALL = 1000  # entries of a vector up to which the basis may hold P of them: 8 MB in float64


def top_eigenpairs(
    operator: CurvatureOperator,
    k: int = 10,
    *,
    which: str = "LM",
    tol: float = 1e-4,
    max_matvecs: int | None = None,
    start: Tensor | None = None,
    generator: torch.Generator | None = None,
    block_size: int | None = None,
    progress: Callable[[EigenProgress], object] | bool | None = None,
    resume: str | Path | None = None,
    **basis: Unpack[BasisOptions],
) -> EigenPairs:
    """The k eigenpairs at one end of the spectrum.

    Args:
        operator: symmetric, (P, P).
        k: how many, in [1, P].
        which: "LM" largest magnitude | "LA" largest algebraic | "SA" smallest algebraic.
        tol: a pair has converged when its residual is at most tol · max(|θᵢ|, eps^(2/3) |θ|max).
        max_matvecs: products at most; default max(1000, 10 k).
        start: starting vector, (P,), or vectors, (P, j), for instance eigenvectors of a nearby operator; default
            random. Several are added up. What they lead to is believed only after 10 further products, in case
            it is a lower eigenvalue.
        generator: for the starting vectors and after breakdowns; default seed 0.
        block_size: vectors that share one pass over the data. Eigenvalues come as often as they are, up to this number.
            A larger block needs more products in all, and fewer passes. Default 4 where operator.columns is at least 8,
            k too and P at least 16, else 1; the last of such blocks are as narrow as the open pairs allow.
        progress: a bar or none, default one where somebody looks; or a function of EigenProgress, called at each look.
        resume: an .npz file that a killed run, called again with the same arguments, goes on from. Written at most
            every 5 seconds, and at most for 5 % of the time, and when a product raises; removed at the end.
        basis: basis_size, basis_device, basis_dtype and basis_group: see `BasisOptions`.
    Returns:
        Always k pairs, in the order of `which`; those that `max_matvecs` left unconverged have converged = False. If it
        is below k, the pairs without a product repeat the last value with an infinite residual. An eigenvalue of a
        multiplicity above block_size comes as often as it is only if the Krylov space closes, as for projections or the
        identity: a single starting vector does not tell copies apart.
    Raises:
        ValueError: if an argument is out of range, the operator gives NaN or infinity, or resume= keeps other work.
    """
    size, automatic = operator.shape[0], block_size is None
    integer_in("k", k, 1, size)
    one_of("which", which, ("LM", "LA", "SA"))
    positive("tol", tol)
    width = _block(operator, k) if block_size is None else block_size
    integer_in("block_size", width, 1, size)
    limit = max(1000, 10 * k) if max_matvecs is None else max_matvecs
    integer_in("max_matvecs", limit, 1)
    wanted, starts, source = (k, which, tol, limit), checked_starts(start, operator), random_source(generator)
    rows, kept, settings = _basis(operator, k, width, resume, basis)
    settings |= {"k": k, "which": which, "tol": tol, "max_matvecs": limit, "generator": fingerprint(source.get_state())}
    checkpoint = ArrayCheckpoint(resume, settings | {"start": None if starts is None else fingerprint(starts)})
    krylov = Krylov(scaled := Scaled(operator), rows, width, source, **kept)
    search = _Search(krylov, scaled, wanted, width, narrow=automatic, window=0 if starts is None else WINDOW)
    search.begin(checkpoint.load(), starts, source)
    with eigenpairs_shown(scaled, k, progress) as told:
        return search.run(checkpoint, told)


def _basis(
    operator: CurvatureOperator, k: int, width: int, resume: str | Path | None, basis: BasisOptions
) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Rows of the basis, how `Krylov` keeps them, and what of the settings they decide."""
    size, capacity = operator.shape[0], basis.get("basis_size")
    capacity = _capacity(size, k, width) if capacity is None else capacity
    integer_in("basis_size", capacity, min(k + 1, size))
    kept = basis.get("basis_dtype") or operator.dtype
    require(kept.is_floating_point, f"basis_dtype must be floating, got {kept}")
    require(
        basis.get("basis_group") is None or resume is None,
        f"resume must be None where a basis_group keeps the basis, got {resume}; leave one of them out",
    )
    require(
        not operator.space.dealt_out or (resume is None and basis.get("basis_group") is None),
        "resume= and basis_group= must be left out where vectors are dealt out to processes: the basis is as they are",
    )
    about = {"operator": type(operator).__name__, "P": size, "dtype": str(operator.dtype)}
    where = {"dtype": kept, "device": basis.get("basis_device"), "group": basis.get("basis_group")}
    return min(size, capacity), where, about | {"block_size": width, "basis_size": capacity, "basis_dtype": str(kept)}


class _Search:
    """When to look at the small matrix, what to believe of it, and when to stop."""

    def __init__(
        self,
        krylov: Krylov,
        scaled: Scaled,
        wanted: tuple[int, str, float, int],
        width: int,
        *,
        narrow: bool,
        window: int,
    ) -> None:
        self.krylov, self.scaled = krylov, scaled
        (self.k, self.which, self.tol, self.limit), self.width = wanted, width
        self.window = window  # products that the leading values must outlast
        self.block = self.since = 0  # products when the present block began, and when `known` was new
        self.known = self.error = torch.empty(
            0, dtype=torch.float64, device="cpu"
        )  # leading values and their residuals
        self.check_at = self.k
        self.narrow, self.next = narrow, width  # whether the last blocks are smaller, and how wide the next one is

    def begin(self, stored: dict[str, Tensor] | None, starts: Tensor | None, source: torch.Generator) -> None:
        """Go on from what is stored, or begin with the caller's starts, or with random ones."""
        if stored is not None:
            self.load(stored)
        elif starts is not None:
            self.krylov.begin(together(starts, self.width, min(self.tol, 0.01), source, self.krylov.space))
        else:
            self.krylov.begin_random(self.width)

    def run(self, checkpoint: ArrayCheckpoint, progress: Callable[[EigenProgress], object] | None) -> EigenPairs:
        """Products until the wanted pairs are settled or the budget is spent."""
        krylov = self.krylov
        while True:
            spent = krylov.matvecs >= self.limit or krylov.count == krylov.operator.shape[0]
            if spent or krylov.closed or krylov.full or krylov.count >= self.check_at:
                ritz = krylov.ritz(self.which)
                converged = ritz.residuals <= self.tol * _scale(ritz.values, krylov.operator)
                if progress is not None:
                    with checkpoint.saved_on_error(self.state):
                        progress(self._told(ritz, converged))
                settled = converged | (ritz.residuals <= 2 * ritz.floor)  # further products do not help there
                if spent or self._done(ritz, settled):
                    checkpoint.close()
                    return _restored(self.scaled, _pairs(krylov, ritz, self.k, self.tol))
                self._prepare(ritz, settled)
            checkpoint.save_if_due(self.state)
            with checkpoint.saved_on_error(self.state):
                images = krylov.products(min(self.next, self.limit - krylov.matvecs))
            krylov.absorb(images)

    def state(self) -> dict[str, Tensor]:
        """All that a run goes on from."""
        numbers = torch.tensor([self.window, self.block, self.since, self.check_at, self.next], device="cpu")
        own = {"search": numbers, "known": self.known, "error": self.error}
        return {**self.krylov.state(), **self.scaled.state(), **own}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take up a `state`."""
        self.scaled.load(state)
        self.krylov.load(state)
        numbers = [int(n) for n in state["search"]]
        self.window, self.block, self.since, self.check_at, self.next = [*numbers, self.next][:5]  # earlier files: 4
        self.known, self.error = state["known"], state["error"]

    def _done(self, ritz: Ritz, settled: Tensor) -> bool:
        """Whether the wanted pairs are settled and believed."""
        k = self.k
        return (
            self.krylov.count >= k and bool(settled[:k].all()) and self._outlasted(ritz.values[:k], ritz.residuals[:k])
        )

    def _outlasted(self, values: Tensor, residuals: Tensor) -> bool:
        """Whether the leading values stayed as they were, within their residuals, for the window or a closed block."""
        matvecs, closed = self.krylov.matvecs, self.krylov.closed
        if self.window == 0:
            return not closed
        same = len(self.known) > 0 and bool(((values - self.known).abs() <= self.error + residuals).all())
        if not same:
            self.known, self.error, self.since = values, residuals, matvecs
        return same and (closed or matvecs - self.since >= self.window)

    def _prepare(self, ritz: Ritz, settled: Tensor) -> None:
        """Make room and see to it that a vector waits; a new block's window is as long as the longest block."""
        krylov = self.krylov
        self.next = self._width(ritz, settled) if self.narrow else self.width
        if krylov.closed:
            self.window = max(self.window, krylov.matvecs - self.block)
            self.block = krylov.matvecs
            krylov.begin_random(self.width)
        if krylov.full:
            krylov.restart(ritz, keep=self.k + (krylov.count - self.k) // 2)
        self.check_at = max(self.k, krylov.count + max(1, krylov.count // 20))

    def _width(self, ritz: Ritz, settled: Tensor) -> int:
        """How wide the next block is: as many directions as hold more than `tol` of the open pairs' residuals."""
        krylov, open_pairs = self.krylov, (~settled[: self.k]).nonzero()[:, 0]
        if krylov.count < self.k or krylov.pending <= len(open_pairs) or len(open_pairs) == 0:
            return self.width
        m, end = krylov.count, krylov.count + krylov.pending
        residuals = krylov.h[m:end, :m] @ ritz.coordinates[:, open_pairs]
        along = krylov.turn(residuals / _scale(ritz.values, krylov.operator)[open_pairs])
        return max(1, min(self.width, int((along > self.tol).sum())))

    def _told(self, ritz: Ritz, converged: Tensor) -> EigenProgress:
        k, found = self.k, len(ritz.values) >= self.k
        residual = float(times_power(ritz.residuals[:k].max(), self.scaled.exponent)) if found else inf
        return EigenProgress(self.krylov.matvecs, int(converged[:k].sum()), residual)


def _block(operator: CurvatureOperator, k: int) -> int:
    """Block where the caller names none.

    4 columns take 1.3 to 2 times the products of one for top-10 on small trained networks, 8 take 1.9 to 2.7 times. A
    column among four on a CPU costs at least .74 of one alone, so that a block is slower there: three convolutions of
    8, 16 and 16 channels take 49 gradients by single vectors, 55 in pairs, 68 in fours; a small ResNet 50, 62 and 72; a
    perceptron 83, 91 and 84. A block is left to operators that are cheapest with eight or more.
    """
    width = WIDEST if operator.columns >= 2 * WIDEST else 1
    return width if 2 * width <= k and 4 * width <= operator.shape[0] else 1


def _capacity(size: int, k: int, width: int) -> int:
    """Rows of the basis: all P where that many products are within the default budget, and no restart is worth it."""
    return size if size <= max(SMALL, 4 * k) else max(2 * k, 20) + 20 * width


def _scale(values: Tensor, operator: CurvatureOperator) -> Tensor:
    """max(|θᵢ|, eps^(2/3) |θ|max), (m,): what a residual is compared with."""
    floor = torch.finfo(operator.dtype).eps ** (2 / 3) * values.abs().max()
    return values.abs().maximum(floor)


def _pairs(krylov: Krylov, ritz: Ritz, k: int, tol: float) -> EigenPairs:
    found, like = min(k, krylov.count), krylov.basis.like
    values, residuals = ritz.values[:found], (ritz.residuals + krylov.errors(ritz.coordinates))[:found]
    vectors = krylov.vectors(ritz, found)
    if not krylov.basis.exact:
        vectors, residuals = _orthonormal(krylov.space, vectors, values, residuals)
    converged = residuals <= tol * _scale(ritz.values, krylov.operator)[:found]
    for _ in range(k - found):
        rest, _ = orthogonalise(gaussian(krylov.operator, 1, krylov.source).T, vectors[None], krylov.space)
        vectors = torch.cat([vectors, rest / krylov.space.norms(rest, 1)[:, None]])
    missing = torch.full((k - found,), inf, dtype=torch.float64, device="cpu")
    return EigenPairs(
        values=torch.cat([values, values[-1:].expand(k - found)]).to(like),
        vectors=vectors.T.contiguous(),
        residuals=torch.cat([residuals, missing]).to(like),
        converged=torch.cat([converged, torch.zeros(k - found, dtype=torch.bool, device="cpu")]).to(like.device),
        matvecs=krylov.matvecs,
    )


def _restored(scaled: Scaled, found: EigenPairs) -> EigenPairs:
    """Pairs of the scaled operator as pairs of the operator itself."""
    residuals = times_power(found.residuals, scaled.exponent)
    return replace(found, values=scaled.restored(found.values), residuals=residuals, verified=scaled.verified)


def _orthonormal(space: Space, vectors: Tensor, values: Tensor, residuals: Tensor) -> tuple[Tensor, Tensor]:
    """Rows Y (k, P) of rounded Ritz vectors made orthonormal, and what that does to their residual bounds.

    With Yᵀ = Q R:  A Q − Q Θ = (A Yᵀ − Yᵀ Θ) R⁻¹ + Q (R Θ R⁻¹ − Θ).
    """
    q, r = space.qr(vectors.T)
    r = r.cpu().double()
    inverse = torch.linalg.inv(r)
    drift = (r * values) @ inverse - torch.diag(values)
    return q.T, residuals @ inverse.abs() + drift.norm(dim=0)
