"""Orthonormal rows (n, P) kept where and how the caller wants them: on another device, or in a lower precision.

The arithmetic goes to where the rows lie: over a bus the one vector that moves is cheaper than the whole basis, and a
row kept in few digits is widened just before it is used, a few rows at a time.
"""

from collections.abc import Iterator
from typing import TypedDict

import torch
from torch import Tensor

from landscape.linalg.operator import CurvatureOperator
from landscape.processes import ProcessGroup

# Both bound memory. Measured on a CPU with 64 rows of 200,000: a vector meets bfloat16 ones in 17 ms row by row, 45 by
# eights, 157 all at once; float32 ones turn in 37 ms by 2^22 bytes, 63 by 2^26, 58 by 2^28.
WIDENED = 8  # rows of a lower precision turned into the operator's at once
ROTATED_BYTES = 2**26  # of the columns that `rotate` holds twice


class BasisOptions(TypedDict, total=False):
    """How `top_eigenpairs` keeps its basis; all have defaults.

    Keys:
        basis_size: vectors of the basis, above k, before a restart; default max(2 k, 20) + 20 block_size, or P where
            that is at most 1000 or 4 k: then P products are enough.
        basis_device: where the basis is kept, "cpu" for instance; default the operator's device. The arithmetic with it
            is done there.
        basis_dtype: in which precision it is kept; default the operator's. The residuals tell what rounding costs.
        basis_group: processes, such as torch.distributed.group.WORLD, that each keep only their own entries of every
            vector of the basis, so that its memory is divided by their number; working vectors and the result are
            whole on each. All make the same call, generators of the same seed included. About four all-gathers of P
            numbers a step come on top of the products. Not with resume=.
    """

    basis_size: int | None
    basis_device: torch.device | str | None
    basis_dtype: torch.dtype | None
    basis_group: ProcessGroup | None


class Basis:
    """Room for `capacity` rows; `operator` says in which precision and on which device vectors come and go.

    Args:
        device, dtype: of the rows; None as the operator's.
        width: entries of a row, default those of a vector here.
    """

    def __init__(
        self,
        operator: CurvatureOperator,
        capacity: int,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        width: int | None = None,
    ) -> None:
        self.like = torch.empty(0, dtype=operator.dtype, device=operator.device)
        self.space = operator.space
        width = self.space.own if width is None else width
        self.rows = torch.empty(capacity, width, dtype=dtype or operator.dtype, device=device or operator.device)
        self.exact = torch.finfo(self.rows.dtype).eps <= torch.finfo(operator.dtype).eps
        self.errors = torch.zeros(capacity, dtype=operator.dtype, device=operator.device)  # |stored − given|

    def row_block(self, first: int, last: int) -> Tensor:
        """Rows in [first, last) as the operator takes vectors, (P, last − first)."""
        return self.rows[first:last].to(self.like).T

    def components(self, block: Tensor, first: int, last: int) -> Tensor:
        """Inner products of `block` (p, P) with the rows in [first, last): (p, last − first)."""
        here = block.to(self.rows.device)
        parts = [here @ rows.T for rows in self._widened(first, last)]
        return self.space.added(torch.cat(parts, dim=1).to(self.like))

    def take_out(self, block: Tensor, coefficients: Tensor, first: int) -> Tensor:
        """block (p, P) − coefficients (p, n) times the rows from `first` on; in place where it lies beside the rows."""
        here, start = block.to(self.rows.device), 0
        factors = coefficients.to(here)
        for rows in self._widened(first, first + coefficients.shape[1]):
            here.addmm_(factors[:, start : start + len(rows)], rows, alpha=-1)
            start += len(rows)
        return here.to(self.like)

    def combine(self, coefficients: Tensor) -> Tensor:
        """coefficients (p, n) times the first n rows, (p, P)."""
        factors, start = coefficients.to(self.rows.device, self.like.dtype), 0
        total = torch.zeros((), dtype=self.like.dtype, device=self.rows.device)
        for rows in self._widened(0, coefficients.shape[1]):
            total = total + factors[:, start : start + len(rows)] @ rows
            start += len(rows)
        return total.to(self.like)

    def store(self, first: int, block: Tensor) -> None:
        """Put `block` (p, P) in the rows from `first` on."""
        last = first + len(block)
        self.rows[first:last] = block
        if not self.exact:
            self.errors[first:last] = self.space.norms(self.rows[first:last].to(self.like) - block, 1)

    def rotate(self, coordinates: Tensor) -> Tensor:
        """Turn the first m rows into coordinates.T (keep, m) times them; returns what rounding took, (keep,)."""
        m, keep = coordinates.shape
        factors = coordinates.T.to(self.rows.device, self.like.dtype)
        width = max(1, ROTATED_BYTES // (m * self.like.element_size()))
        squared = torch.zeros(keep, dtype=self.like.dtype, device=self.rows.device)
        for columns in self.rows.split(width, dim=1):
            turned = factors @ columns[:m].to(self.like.dtype)
            columns[:keep] = turned
            if not self.exact:
                squared += (columns[:keep].to(self.like.dtype) - turned).square().sum(1)
        return (squared if self.exact else self.space.added(squared)).sqrt().cpu().double()

    def move(self, source: int, target: int, count: int) -> None:
        """Copy `count` rows from `source` on to `target` on."""
        self.rows[target : target + count] = self.rows[source : source + count].clone()
        self.errors[target : target + count] = self.errors[source : source + count].clone()

    def _widened(self, first: int, last: int) -> Iterator[Tensor]:
        """The rows in [first, last) in the operator's precision, a few at a time where that is a copy."""
        step = max(1, last - first) if self.rows.dtype == self.like.dtype else WIDENED
        for start in range(first, last, step):
            yield self.rows[start : min(start + step, last)].to(self.like.dtype)
