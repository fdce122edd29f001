"""The vectors (P,) that algorithms work on: held whole, or dealt out so that each entry lies with one process.

All that knows of the others is here: inner products XᵀY = Σ_r X_rᵀY_r are one all-reduce for a block, X = Q R is put
together from the ranks' own factors by one all-gather, and random vectors are the same as one process draws.
Source: Demmel et al. 2012, "Communication-optimal parallel and sequential QR and LU factorizations", TSQR.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, distributed

from landscape.checks import require
from landscape.processes.ranks import ProcessGroup, added, answered

DRAWN = 2**22  # random numbers at once; of a multiple of 16, torch draws the same ones in parts as in one piece


class Space:
    """Vectors of P entries, all of them here.

    Attributes:
        size: P.
        own: entries of a vector that lie here.
        group: the processes that the others lie with; None where there are none.
        first: entries that lie with processes of a lower rank.
    """

    group: ProcessGroup | None = None
    first = 0

    def __init__(self, size: int) -> None:
        self.size = self.own = size

    @property
    def dealt_out(self) -> bool:
        """Whether some entries lie elsewhere."""
        return self.group is not None

    def added(self, numbers: Tensor) -> Tensor:
        """The sum of all processes' tensors of one shape, the same bits on all."""
        return numbers

    def inner(self, X: Tensor, Y: Tensor) -> Tensor:
        """XᵀY of blocks (own, k) and (own, l), or of vectors."""
        return self.added((X.T if X.ndim > 1 else X) @ Y)

    def norms(self, block: Tensor, dim: int = 0) -> Tensor:
        """Norms along `dim`, which is that of the entries."""
        return block.norm(dim=dim)

    def largest(self, number: float) -> float:
        """Of all processes' numbers the largest; NaN where one is."""
        return number

    def any(self, fact: bool) -> bool:
        """Whether it holds for one process at least: what decides how a computation goes on is the same for all."""
        return self.largest(float(fact)) > 0

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """What one process refuses within the block all refuse, so that none goes on and waits for it.

        Raises:
            Exception: this process's own; ValueError where another one has failed.
        """
        yield

    def qr(self, block: Tensor) -> tuple[Tensor, Tensor]:
        """Q (own, p) with orthonormal columns and R (p, l) of Q R = block (own, l)."""
        q, r = torch.linalg.qr(block)
        return q, r

    def svd(self, block: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """U (own, p), singular values (p,) and Vᵀ (p, l) of a block (own, l)."""
        left, singular, right = torch.linalg.svd(block, full_matrices=False)
        return left, singular, right

    def normal(self, count: int, source: torch.Generator) -> Tensor:
        """Standard normal numbers, `count` vectors as rows (count, own), in float64 on the generator's device."""
        return torch.randn(count, self.size, generator=source, dtype=torch.float64, device=source.device)

    def axes(self, start: int, stop: int) -> Tensor:
        """The own entries of so many unit vectors, (own, stop − start), float64 on the CPU."""
        columns = torch.zeros(self.own, stop - start, dtype=torch.float64, device="cpu")
        for column in range(max(start, self.first), min(stop, self.first + self.own)):
            columns[column - self.first, column - start] = 1
        return columns

    def whole(self, rows: Tensor) -> Tensor:
        """All rows (P, k) on every process, from the own ones (own, k); those of rank 0 first."""
        return rows


class DealtOut(Space):
    """Vectors whose entries lie with the processes of a group, `own` of them here."""

    def __init__(self, own: int, group: ProcessGroup, device: torch.device) -> None:
        self.group, self.own, self.device = group, own, device
        self.rank, self.count = distributed.get_rank(group), distributed.get_world_size(group)
        sizes = torch.zeros(self.count, dtype=torch.int64, device=device)
        sizes[self.rank] = own
        sizes = added(sizes, group)
        self.first, self.size = int(sizes[: self.rank].sum()), int(sizes.sum())

    def added(self, numbers: Tensor) -> Tensor:
        return added(numbers, self.group)

    def norms(self, block: Tensor, dim: int = 0) -> Tensor:
        return self.added(block.double().square().sum(dim)).sqrt().to(block.dtype)

    def largest(self, number: float) -> float:
        # NaN comes through no maximum for certain
        told = [number if number == number else 0.0, float(number != number)]
        pair = torch.tensor(told, dtype=torch.float64, device=self.device)
        with answered():
            distributed.all_reduce(pair, op=distributed.ReduceOp.MAX, group=self.group)
        return float("nan") if pair[1] > 0 else float(pair[0])

    @contextmanager
    def agreed(self) -> Iterator[None]:
        failure = None
        try:
            yield
        except Exception as error:  # whatever it is, the others must hear of it
            failure = error
        failed = self.any(failure is not None)
        if failure is not None:
            raise failure
        require(not failed, "another process has refused this call; see its message")

    def qr(self, block: Tensor) -> tuple[Tensor, Tensor]:
        q, r = torch.linalg.qr(block)
        columns = block.shape[1]
        padded = torch.zeros(columns, columns, dtype=block.dtype, device=block.device)
        padded[: len(r)] = r
        factors = [torch.empty_like(padded) for _ in range(self.count)]
        with answered():
            distributed.all_gather(factors, padded, group=self.group)
        turned, triangle = torch.linalg.qr(torch.cat(factors))
        start = self.rank * columns
        return q @ turned[start : start + len(r)], triangle

    def svd(self, block: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, r = self.qr(block)
        left, singular, right = torch.linalg.svd(r)
        return q @ left, singular, right

    def normal(self, count: int, source: torch.Generator) -> Tensor:
        raise NotImplementedError("which entries lie here, a subclass knows")

    def whole(self, rows: Tensor) -> Tensor:
        total = torch.zeros(self.size, rows.shape[1], dtype=rows.dtype, device=rows.device)
        total[self.first : self.first + self.own] = rows
        return self.added(total)


def drawn(sizes: Sequence[int], source: torch.Generator) -> Iterator[Tensor]:
    """Standard normal numbers in pieces of these sizes, those of one torch.randn(sum(sizes)) in little memory."""
    left, rest = sum(sizes), torch.empty(0, dtype=torch.float64, device=source.device)
    for size in sizes:
        parts, held = [rest], len(rest)
        while held < size:
            count = left if left <= DRAWN + 16 else DRAWN
            parts.append(torch.randn(count, generator=source, dtype=torch.float64, device=source.device))
            left, held = left - count, held + count
        joined = torch.cat(parts)
        yield joined[:size]
        rest = joined[size:]
