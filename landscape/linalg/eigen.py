"""Eigenpairs of a symmetric operator by thick-restart block Lanczos with full reorthogonalisation and residual bounds.

`Krylov` grows the basis; here is when to look, what to believe and when to stop. A closed Krylov space (a breakdown)
holds one eigenvector of each eigenvalue, or as many as the block is wide, or fewer if the caller chose the start. So a
new block is begun with random vectors, and the run ends only when the leading values outlast further products.
Source: Wu and Simon 2000, "Thick-restart Lanczos method for large symmetric eigenvalue problems"; Stewart 2001; Golub
and Underwood 1977, "The block Lanczos method for computing eigenvalues".
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import torch
from torch import Tensor

from landscape.checks import integer_in, one_of, positive, require
from landscape.linalg.krylov import Krylov, Ritz
from landscape.linalg.lanczos import orthogonalise
from landscape.linalg.operator import CurvatureOperator
from landscape.linalg.probes import gaussian
from landscape.linalg.scaled import Scaled, times_power
from landscape.linalg.starts import checked_starts, together
from landscape.processes import ProcessGroup
from landscape.side_effects import random_source
from landscape.storage.array_checkpoint import Journal, fingerprint
from landscape.storage.results import EigenPairs

WINDOW = 10  # products that what a caller's start leads to must outlast
WIDEST = 4  # columns of a block that is chosen here: a wider one takes more products than it saves a column
SMALL = 1000  # entries of a vector up to which the basis may hold P of them


@dataclass(frozen=True)
class EigenProgress:
    """Where a run stands, as `progress` is told at every look at the small matrix."""

    matvecs: int
    converged: int  # of the k wanted pairs
    residual: float  # the largest among them; infinite while there are fewer


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
    basis_size: int | None = None,
    basis_device: torch.device | str | None = None,
    basis_dtype: torch.dtype | None = None,
    basis_group: ProcessGroup | None = None,
    progress: Callable[[EigenProgress], object] | None = None,
    checkpoint: str | Path | None = None,
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
            A larger block needs more products in all, and fewer passes. Default operator.columns, 4 at most, where
            that is at most k / 2 and P / 4, else 1; the last of such blocks are as narrow as the open pairs allow.
        basis_size: vectors of the basis, above k, before a restart; default max(2 k, 20) + 20 block_size, or P where
            that is at most 1000 or 4 k: then P products are enough.
        basis_device: where the basis is kept, "cpu" for instance; default the operator's device. The arithmetic with it
            is done there.
        basis_dtype: in which precision it is kept; default the operator's. The residuals tell what rounding costs.
        basis_group: processes, such as torch.distributed.group.WORLD, that each keep only their own entries of every
            vector of the basis, so that its memory is divided by their number; working vectors and the result are
            whole on each. All make the same call, generators of the same seed included. About four all-gathers of P
            numbers a step come on top of the products. Not with a checkpoint.
        progress: called with an EigenProgress whenever convergence is looked at.
        checkpoint: an .npz file that a killed run, called again with the same arguments, goes on from. Written at most
            every 5 seconds, and at most for 5 % of the time, and when a product raises; removed at the end.
    Returns:
        Always k pairs, in the order of `which`; those that `max_matvecs` left unconverged have converged = False. If it
        is below k, the pairs without a product repeat the last value with an infinite residual. An eigenvalue of a
        multiplicity above block_size comes as often as it is only if the Krylov space closes, as for projections or the
        identity: a single starting vector does not tell copies apart.
    Raises:
        ValueError: if an argument is out of range, the operator gives NaN or infinity, or the checkpoint is of other
            work.
    """
    size = operator.shape[0]
    integer_in("k", k, 1, size)
    one_of("which", which, ("LM", "LA", "SA"))
    positive("tol", tol)
    width = _block(operator, k) if block_size is None else block_size
    integer_in("block_size", width, 1, size)
    limit = max(1000, 10 * k) if max_matvecs is None else max_matvecs
    integer_in("max_matvecs", limit, 1)
    capacity = _capacity(size, k, width) if basis_size is None else basis_size
    integer_in("basis_size", capacity, min(k + 1, size))
    kept = basis_dtype or operator.dtype
    require(kept.is_floating_point, f"basis_dtype must be floating, got {kept}")
    require(
        basis_group is None or checkpoint is None,
        f"checkpoint must be None where a basis_group keeps the basis, got {checkpoint}; leave one of them out",
    )
    starts = checked_starts(start, operator)
    source = random_source(generator)
    settings = {
        **{"operator": type(operator).__name__, "P": size, "dtype": str(operator.dtype)},
        **{"k": k, "which": which, "tol": tol, "max_matvecs": limit},
        **{"block_size": width, "basis_size": capacity, "basis_dtype": str(kept)},
        **{"start": None if starts is None else fingerprint(starts), "generator": fingerprint(source.get_state())},
    }
    journal = Journal(checkpoint, settings)
    rows, scaled = min(size, capacity), Scaled(operator)
    krylov = Krylov(scaled, rows, width, source, device=basis_device, dtype=kept, group=basis_group)
    window, narrow = 0 if starts is None else WINDOW, block_size is None
    search = _Search(krylov, scaled, (k, which, tol, limit), width, narrow=narrow, window=window)
    stored = journal.load()
    if stored is not None:
        search.load(stored)
    elif starts is not None:
        krylov.begin(together(starts, width, min(tol, 0.01), source))
    else:
        krylov.begin_random(width)
    pairs = search.run(journal, progress)
    journal.close()
    return pairs


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

    def run(self, journal: Journal, progress: Callable[[EigenProgress], object] | None) -> EigenPairs:
        """Products until the wanted pairs are settled or the budget is spent."""
        krylov = self.krylov
        while True:
            spent = krylov.matvecs >= self.limit or krylov.count == krylov.operator.shape[0]
            if spent or krylov.closed or krylov.full or krylov.count >= self.check_at:
                ritz = krylov.ritz(self.which)
                converged = ritz.residuals <= self.tol * _scale(ritz.values, krylov.operator)
                if progress is not None:
                    with journal.saved_on_error(self.state):
                        progress(self._told(ritz, converged))
                settled = converged | (ritz.residuals <= 2 * ritz.floor)  # further products do not help there
                if spent or self._done(ritz, settled):
                    return _restored(self.scaled, _pairs(krylov, ritz, self.k, self.tol))
                self._prepare(ritz, settled)
            journal.save_if_due(self.state)
            with journal.saved_on_error(self.state):
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

    On three small trained networks 4 columns take 1.5 to 1.7 times the products of one for top-10, and 1.4 to 1.5 times
    for top-20; on model spectra 1.8 times for top-5, and 8 columns 1.9 to 2.7 times for top-10.
    """
    width = min(operator.columns, WIDEST)
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
    values, residuals = ritz.values[:found], ritz.residuals[:found]
    vectors = krylov.vectors(ritz, found)
    if not krylov.basis.exact:
        vectors, residuals = _orthonormal(vectors, values, residuals)
    converged = residuals <= tol * _scale(ritz.values, krylov.operator)[:found]
    for _ in range(k - found):
        rest, _ = orthogonalise(gaussian(krylov.operator, 1, krylov.source).T, vectors[None])
        vectors = torch.cat([vectors, rest / rest.norm()])
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


def _orthonormal(vectors: Tensor, values: Tensor, residuals: Tensor) -> tuple[Tensor, Tensor]:
    """Rows Y (k, P) of rounded Ritz vectors made orthonormal, and what that does to their residual bounds.

    With Yᵀ = Q R:  A Q − Q Θ = (A Yᵀ − Yᵀ Θ) R⁻¹ + Q (R Θ R⁻¹ − Θ).
    """
    q, r = torch.linalg.qr(vectors.T)
    r = r.cpu().double()
    inverse = torch.linalg.inv(r)
    drift = (r * values) @ inverse - torch.diag(values)
    return q.T, residuals @ inverse.abs() + drift.norm(dim=0)
