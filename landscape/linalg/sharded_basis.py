"""A basis of which each process keeps only its own entries of every row: memory over the number of processes.

Vectors come and go whole and are the same on all ranks. Inner products are sums over the ranks, one all-reduce of few
numbers; rows, and what is left of a vector, are put together from the ranks' entries, one all-gather of P numbers.
"""

import torch
from torch import Tensor

from landscape.linalg.basis import Basis
from landscape.linalg.operator import CurvatureOperator
from landscape.processes import ProcessGroup, added, gathered, span_of


class ShardedBasis(Basis):
    """A `Basis` dealt out to the processes of `group`, all of which make the same calls."""

    def __init__(
        self,
        operator: CurvatureOperator,
        capacity: int,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        group: ProcessGroup,
    ) -> None:
        self.size, self.group, self.own = operator.shape[0], group, span_of(operator.shape[0], group)
        super().__init__(operator, capacity, device, dtype, width=self.own.stop - self.own.start)

    def row_block(self, first: int, last: int) -> Tensor:
        return self._whole(super().row_block(first, last).T).T

    def components(self, block: Tensor, first: int, last: int) -> Tensor:
        return added(super().components(block[:, self.own], first, last), self.group)

    def take_out(self, block: Tensor, coefficients: Tensor, first: int) -> Tensor:
        return self._whole(super().take_out(block[:, self.own], coefficients, first))

    def combine(self, coefficients: Tensor) -> Tensor:
        return self._whole(super().combine(coefficients))

    def store(self, first: int, block: Tensor) -> None:
        super().store(first, block[:, self.own])
        last = first + len(block)
        self.errors[first:last] = self._norm(self.errors[first:last])

    def rotate(self, coordinates: Tensor) -> Tensor:
        return self._norm(super().rotate(coordinates).to(self.like)).cpu().double()

    def _whole(self, part: Tensor) -> Tensor:
        return gathered(part, self.size, self.group)

    def _norm(self, own: Tensor) -> Tensor:
        """Norms (n,) of rows from those of their own entries; all 0 where rows are kept as they are given."""
        return own if self.exact else added(own.square(), self.group).sqrt()
