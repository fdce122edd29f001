"""A growing Krylov basis V of a symmetric operator: A V = V H + R with H = Vᵀ A V filled column by column.

The rows m … m + q of V wait for their products, a block of them at a time; what a product holds beyond V joins the
queue, unless it is rounding. So blocks may lose rank, and starting vectors of any number are welcome. A product is
first freed of what symmetry says it holds of V (few vectors), then once of all of V: together that is twice.
Ritz pairs (θ, V s) of H have the residual |H[m:, :] s|, known without a product; for a symmetric A an eigenvalue lies
within it of θ. A full basis is cut back to the leading Ritz vectors, and H goes on from there exactly.
Source: Wu and Simon 2000, "Thick-restart Lanczos method for large symmetric eigenvalue problems"; Stewart 2001; Ruhe
1979, "Implementation aspects of band Lanczos algorithms".
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from landscape.checks import require
from landscape.linalg.basis import Basis
from landscape.linalg.lanczos import breakdown_level
from landscape.linalg.operator import CurvatureOperator
from landscape.linalg.probes import gaussian
from landscape.linalg.scaled import require_finite
from landscape.linalg.sharded_basis import ShardedBasis
from landscape.processes import ProcessGroup

OTHER_OPERATOR = 1e-3  # of the scale, our choice: entries that differ by more than rounding are of another operator


@dataclass(frozen=True, eq=False)
class Ritz:
    """Ritz pairs in the wanted order; all (m,) but the coordinates."""

    values: Tensor
    coordinates: Tensor  # (m, m), as columns
    residuals: Tensor  # bounds of |A V s − θ V s|
    floor: Tensor  # how much of these is rounding, which further products do not take away


class Krylov:
    """The basis, H and the queue.

    Args:
        operator: symmetric, (P, P).
        capacity: most columns of H.
        queue: most vectors that ever wait.
        device, dtype: where and how the basis is kept; default as the operator's vectors.
        group: processes among which the rows' entries are dealt out; None keeps them whole.
        source: for random vectors.
    """

    def __init__(
        self,
        operator: CurvatureOperator,
        capacity: int,
        queue: int,
        source: torch.Generator,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        group: ProcessGroup | None = None,
    ) -> None:
        self.operator, self.source, self.space = operator, source, operator.space
        rows = capacity + queue
        self.basis = (
            Basis(operator, rows, device, dtype)
            if group is None
            else ShardedBasis(operator, rows, device, dtype, group)
        )
        self.h = torch.zeros(rows, capacity, dtype=torch.float64, device="cpu")
        self.lost = torch.zeros(
            capacity, dtype=torch.float64, device="cpu"
        )  # norms of what the columns of A V − V H leave out
        self.stated = torch.zeros_like(self.lost)  # how far the products may be off, by their own account
        self.count = self.pending = self.matvecs = 0
        self.resumed = False
        self._work: Tensor | None = None

    @property
    def full(self) -> bool:
        return self.count == self.h.shape[1]

    @property
    def closed(self) -> bool:
        """Nothing waits: the span of V is invariant."""
        return self.pending == 0

    def products(self, block_size: int) -> Tensor:
        """A times the next waiting vectors, (P, p) with p at most `block_size`; nothing changes yet."""
        last = self.count + min(block_size, self.pending, self.h.shape[1] - self.count)
        block = self.basis.row_block(self.count, last)
        return self.operator.matvec(block[:, 0])[:, None] if block.shape[1] == 1 else self.operator.matmat(block)

    def absorb(self, images: Tensor) -> None:
        """Turn products (P, p) into p columns of H, and what they hold beyond V into waiting vectors."""
        m, p, end = self.count, images.shape[1], self.count + self.pending
        rest, known = self._copied(images), self.h[m : m + p, :m]
        if bool((known != 0).any()):
            first = int((known != 0).any(0).int().argmax())
            rest = self.basis.take_out(rest, known[:, first:].to(rest), first)
        own = self.basis.components(rest, m, end)
        rest = self.basis.take_out(rest, own, m)
        rest, along = self._reject(rest, end)
        along[:, m:] += own
        directions, triangle = self._factors(rest)
        packed = torch.cat([along, triangle.T], dim=1).cpu().double()  # all that the CPU must know of this step
        require_finite(float(packed.sum()))
        along_cpu, triangle = packed[:, :end].T, packed[:, end:].T
        self._check_same_operator(along_cpu[:m], known.T)
        along_cpu[:m] += known.T
        self.h[:end, m : m + p] = along_cpu
        self.h[end:, m : m + p] = 0
        joined = self._join(directions, triangle, end)
        if self.operator.errors is not None:
            self.stated[m : m + p] = self.operator.errors.cpu().double()
        self.count, self.pending, self.matvecs = m + p, self.pending - p + joined, self.matvecs + p
        self.resumed = False

    def begin(self, block: Tensor) -> None:
        """Let `block` (p, P), whatever its length, wait behind the others: its part outside of V."""
        end = self.count + self.pending
        block = block / self.space.norms(block, 1)[:, None]
        rest = self._reject(block, end)[0] if end else block
        directions, triangle = self._factors(rest)
        left, singular, _ = torch.linalg.svd(triangle.cpu().double())
        rank = int((singular > breakdown_level(self.operator, torch.ones((), device="cpu"))).sum())
        fresh = (directions @ left[:, :rank].to(directions)).T
        if rank and end:
            fresh = self.space.qr(self._reject(fresh, end)[0].T)[0].T
        self.basis.store(end, fresh)
        self.h[end:] = 0
        self.pending += len(fresh)

    def begin_random(self, count: int) -> None:
        """Let at most `count` random vectors wait."""
        free = self.operator.shape[0] - self.count - self.pending
        if min(count, free) > 0:
            self.begin(gaussian(self.operator, min(count, free), self.source).T)

    def ritz(self, which: str) -> Ritz:
        """Ritz pairs in the order of `which`, with what their residuals can be at most."""
        m = self.count
        h, end = self.h[:m, :m], m + self.pending
        symmetric = (h + h.T) / 2
        values, coordinates = torch.linalg.eigh(symmetric)
        order = {"LM": -values.abs(), "LA": -values, "SA": values}[which].argsort(stable=True)
        values, coordinates = values[order], coordinates[:, order]
        eps = torch.finfo(self.operator.dtype).eps
        asymmetry = ((h - symmetric) @ coordinates).norm(dim=0)  # noise of the products shows here
        floor = asymmetry + self._left_out(coordinates) + 10 * eps * values.abs().max()
        truncation = (self.h[m:end, :m] @ coordinates).norm(dim=0)
        stretch = 1 + m * torch.finfo(self.basis.rows.dtype).eps  # of V, where its rows are rounded
        residuals = stretch * ((truncation**2 + asymmetry**2).sqrt() + floor - asymmetry)
        return Ritz(values, coordinates, residuals, floor)

    def turn(self, residuals: Tensor) -> Tensor:
        """Turn the waiting vectors so that `residuals` (q, n), columns in terms of them, lie in as few as can be.

        The span, and with it A V = V H + R, is as it was. Returns what lies along each, falling, (min(q, n),).
        """
        m, end = self.count, self.count + self.pending
        directions, along, _ = torch.linalg.svd(residuals)
        errors = directions.abs().T.to(self.basis.errors) @ self.basis.errors[m:end]
        waiting = self.basis.row_block(m, end).T
        self.basis.store(m, directions.T.to(waiting) @ waiting)
        self.basis.errors[m:end] += errors
        self.h[m:end] = directions.T @ self.h[m:end]
        return along

    def restart(self, ritz: Ritz, keep: int) -> None:
        """Cut the basis back to the leading `keep` Ritz vectors and those that wait.

        Converged pairs are locked by staying in: the Ritz values of a space that holds them cannot fall behind theirs.
        Their coupling stays too, so that it does not limit the accuracy of the smaller ones.
        """
        m, end = self.count, self.count + self.pending
        kept = ritz.coordinates[:, :keep]
        inner, coupling = kept.T @ self.h[:m] @ kept, self.h[m:end] @ kept
        left_out, stated = self._left_out(kept), self.errors(kept)
        rounded = self.basis.rotate(kept)
        self.basis.errors[:keep] = 0
        self.basis.move(m, keep, self.pending)
        self.lost.zero_()
        self.stated.zero_()
        self.stated[:keep] = stated
        self.lost[:keep] = left_out + 2 * float(ritz.values.abs().max()) * rounded
        self.h.zero_()
        self.h[:keep, :keep], self.h[keep : keep + self.pending, :keep] = inner, coupling
        self.count = keep

    def errors(self, coordinates: Tensor) -> Tensor:
        """How far A V s may be off by what the products state, which no further ones take away, (n,).

        As if errors of different products were independent; each is stated above what it is.
        """
        found: Tensor = (self.stated[: len(coordinates)].square() @ coordinates.square()).sqrt()
        return found

    def vectors(self, ritz: Ritz, count: int) -> Tensor:
        """The leading Ritz vectors, (count, P)."""
        return self.basis.combine(ritz.coordinates[:, :count].T)

    def state(self) -> dict[str, Tensor]:
        """All that a run goes on from."""
        end = self.count + self.pending
        return {
            "rows": self.basis.rows[:end],
            "errors": self.basis.errors[:end],
            "h": self.h[:end],
            "lost": self.lost,
            "counts": torch.tensor([self.count, self.pending, self.matvecs], device="cpu"),
            "random": self.source.get_state(),
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """Take up a `state`."""
        self.count, self.pending, self.matvecs = (int(n) for n in state["counts"])
        end = self.count + self.pending
        self.basis.rows[:end], self.basis.errors[:end] = state["rows"], state["errors"]
        self.h[:end], self.lost = state["h"], state["lost"]
        self.source.set_state(state["random"])
        self.resumed = True

    def _copied(self, images: Tensor) -> Tensor:
        """The products (P, p) as rows (p, P) to work on: the same memory at every step, as new memory is slow."""
        size, p = images.shape
        if self._work is None or len(self._work) < p:
            self._work = images.new_empty(p, size)
        return self._work[:p].copy_(images.reshape(1, size) if p == 1 else images.T)

    def _reject(self, block: Tensor, end: int) -> tuple[Tensor, Tensor]:
        """Take the components along the first `end` rows, (p, end), out of `block` (p, P), in place if it can."""
        along = torch.zeros(len(block), end, dtype=block.dtype, device=block.device)
        for _ in range(1 if self.basis.exact else 2):  # rounded rows are less orthogonal
            part = self.basis.components(block, 0, end)
            block, along = self.basis.take_out(block, part, 0), along + part
        return block, along

    def _factors(self, rest: Tensor) -> tuple[Tensor, Tensor]:
        """Q (P, p) with orthonormal columns and R (p, p) of Q R = rest.T."""
        if len(rest) > 1:
            return self.space.qr(rest.T)
        norm = self.space.norms(rest, 1)[0] if self.space.dealt_out else rest.norm()
        return rest.div_(norm.clamp_min(torch.finfo(rest.dtype).tiny)).T, norm[None, None]

    def _join(self, directions: Tensor, triangle: Tensor, end: int) -> int:
        """Let the columns of `directions` @ `triangle` wait as far as they have rank; the rest counts as lost."""
        left, singular, right = torch.linalg.svd(triangle)
        rank = int((singular > breakdown_level(self.operator, self.h.abs().max())).sum())
        rank = min(rank, self.operator.shape[0] - end)
        columns = slice(self.count, self.count + len(singular))
        self.lost[columns] = (singular[rank:, None] * right[rank:]).norm(dim=0)
        self.h[end : end + rank, columns] = singular[:rank, None] * right[:rank]
        if rank > 0:
            fresh = (directions.mul_(left.item()) if len(left) == 1 else directions @ left[:, :rank].to(directions)).T
            if singular[rank - 1] < 0.1 * singular[0]:  # cancellation brought components along V back
                again, signs = self.space.qr(self._reject(fresh, end)[0].T)
                fresh = (again * signs.diagonal().sign()).T
            self.basis.store(end, fresh)
        return rank

    def _left_out(self, coordinates: Tensor) -> Tensor:
        """Bounds of |A V s − V H s| for the columns of `coordinates` (m, n), (n,)."""
        m, end = self.count, self.count + self.pending
        below = (self.h[:end, :m].tril(-1) @ coordinates).abs()
        return self.basis.errors[:end].cpu().double() @ below + self.lost[:m] @ coordinates.abs()

    def _check_same_operator(self, correction: Tensor, known: Tensor) -> None:
        """After a resumption the first product must agree with H's symmetric entries."""
        if self.resumed:
            noise = OTHER_OPERATOR + 10 * torch.finfo(self.basis.rows.dtype).eps
            scale = torch.cat([self.h.abs().amax()[None], known.abs().flatten()]).max()
            require(
                bool((correction.abs() <= noise * scale).all()),
                "the file of resume= is of another operator; choose another path or delete it",
            )
