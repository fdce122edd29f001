"""The frame of every curvature operator: (Σ_b u_b A_b / Σ_b u_b) V, one pass over the data for a whole block V."""

from abc import abstractmethod
from collections.abc import Callable

from torch import Tensor

from landscape.operator import CurvatureOperator
from landscape.problem import Batch, Problem
from landscape.vectors import Block

Product = Callable[[Block], Block]


class OperatorOverData(CurvatureOperator):
    """Weighted mean of the batches' operators at a fixed w. Making one reads no data.

    Args:
        problem: the scalar function.
        w: where the curvature is taken, (P,); default a copy of the model's own weights now, so that the operator
            stays the same when the model moves on.
    """

    def __init__(self, problem: Problem, w: Tensor | None = None) -> None:
        own = problem.vector()
        super().__init__(problem.size, own.dtype, own.device)
        self.problem = problem
        self.w = own if w is None else w.detach().clone()
        self._statistics: dict[str, Tensor] | None = None

    @abstractmethod
    def _linearised(self, batch: Batch) -> Product:
        """One batch's operator at batch.w as a function of a block of vectors, (P, K) to (P, K)."""

    def _product(self, block: Block) -> Block:
        if self._statistics is None:
            self._statistics = self.problem.statistics(self.w)
        return self.problem.mean(
            lambda batch: self._linearised(batch)(block), self.w, second_order=True, buffers=self._statistics
        )
