"""The frame of every curvature operator: (Σ_b u_b A_b / Σ_b u_b) V, one pass over the data for a whole block V.

Building a batch's first-order graph costs one gradient, each product from it about two more. Krylov methods ask for
many products at one w: where the graphs of all batches fit into a budget of memory, they are kept, and the data is read
once.
"""

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from landscape.checks import vector_like
from landscape.isolation import derivatives_on, random_state, random_state_kept
from landscape.operator import CurvatureOperator
from landscape.problem import Problem
from landscape.program import Batch
from landscape.vectors import Block

Product = Callable[[Block], Block]

GRAPH_BYTES = 2**30  # memory for kept graphs, an operator
DOUBLE_BACKWARD = 3  # a graph of first and second order in units of what the forward pass saves, measured 2.5-3


class OperatorOverData(CurvatureOperator):
    """Weighted mean of the batches' operators at a fixed w. Making one reads no data.

    Args:
        problem: the scalar function. Its data must stay the same for the life of the operator.
        w: where the curvature is taken, (P,); default a copy of the model's own weights now.
        constants: the model's other parameters and its buffers; default copies of the model's own now, so that the
            operator stays the same when the model moves on.
    Raises:
        ValueError: if w has another shape, dtype or device.
    """

    def __init__(self, problem: Problem, w: Tensor | None = None, constants: dict[str, Tensor] | None = None) -> None:
        with derivatives_on():
            own = problem.vector()
            if w is not None:
                vector_like("w", w, own)
            self.w = own if w is None else w.detach().clone()
            self._constants = problem.constants() if constants is None else constants
        super().__init__(problem.size, own.dtype, own.device)
        self.problem = problem
        self._rewind = random_state(*problem.generators)  # shuffled data gives the same batches at every product
        self._buffers: dict[str, Tensor] | None = None  # the constants with what the batch-norm policy puts in place
        self._kept: list[tuple[float, Product]] = []  # units and product of every batch, once all fit
        self._may_keep = True

    @abstractmethod
    def _linearised(self, batch: Batch) -> Product:
        """One batch's operator at batch.w as a function of a block of vectors, (P, K) to (P, K)."""

    def _product(self, block: Block) -> Block:
        with derivatives_on(), random_state_kept(*self.problem.generators):
            self._rewind()
            return self._from_kept(block) if self._kept else self._from_data(block)

    def _from_kept(self, block: Block) -> Block:
        total = torch.zeros(block.shape, dtype=torch.float64, device=self.device)
        for units, product in self._kept:
            total += units * product(block).double()
        return (total / sum(units for units, _ in self._kept)).to(self.dtype)

    def _from_data(self, block: Block) -> Block:
        if self._buffers is None:
            self._buffers = self._constants | self.problem.statistics(self.w, self._constants)
        fresh: list[tuple[float, Product]] = []
        room = GRAPH_BYTES

        def term(batch: Batch) -> Block:
            nonlocal room
            if self._may_keep:
                room -= DOUBLE_BACKWARD * _saved_bytes(batch)
                self._may_keep = room > 0
            product = self._linearised(batch)
            if self._may_keep:
                fresh.append((batch.units, product))
            else:
                fresh.clear()
            return product(block)

        image = self.problem.mean(term, self.w, second_order=True, buffers=self._buffers)
        self._kept = fresh
        return image


def _saved_bytes(batch: Batch) -> int:
    """What the forward pass of a batch saves for backward, in bytes; one forward pass."""
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()

    with saved_tensors_hooks(note, lambda tensor: tensor):
        batch.evaluate(batch.w.clone().requires_grad_())
    return sum(storages.values())
