"""The frame of every curvature operator: (Σ_b u_b A_b / Σ_b u_b) V, one pass over the data for a whole block V.

Building a batch's first-order graph costs one gradient, each product from it about two more. Krylov methods ask for
many products at one w: graphs of batches are kept as far as they fit into a budget of memory, else the batches on the
device, and then the data is read once. Where memory runs out in spite of that, a product goes on with less: without
kept graphs, with fewer columns at once, with half the rows of a batch.
"""

from abc import abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from landscape.batches import count
from landscape.checks import integer_in, require, vector_like
from landscape.cost import GRADIENT, HESSIAN
from landscape.curvature.kept_graphs import Held, Kept, Product
from landscape.curvature.micro_batches import pieces, weighted
from landscape.isolation import derivatives_on, random_state, random_state_kept
from landscape.operator import CurvatureOperator
from landscape.precision import full_precision
from landscape.problem import Problem
from landscape.program import Batch
from landscape.vectors import Block

__all__ = ["OperatorOverData", "Product"]

GRAPH_BYTES = 2**30  # memory for kept graphs, an operator
BATCH_BYTES = 2**30  # and for kept batches


class OperatorOverData(CurvatureOperator):
    """Weighted mean of the batches' operators at a fixed w. Making one reads no data.

    Args:
        problem: the scalar function. Its data must stay the same for the life of the operator.
        w: where the curvature is taken, (P,); default a copy of the model's own weights now.
        constants: the model's other parameters and its buffers; default copies of the model's own now, so that the
            operator stays the same when the model moves on.
        memory: bytes for kept graphs, and as many for kept batches; 0 keeps nothing; default 1 GiB each.
        chunk: columns of a block that a batch serves at once by vmap; default 1, which takes the least memory.
        micro_batch: rows of a batch that are run at once; default all.
        tf32: leave TensorFloat-32 as the user has it; default off during products.
    Attributes:
        chunk, micro_batch: what is in use; out of memory halves them.
    Raises:
        ValueError: if w has another shape, dtype or device, or a setting is out of range.
    """

    _second_order = True  # passes are run as `second_order.py` has it

    def __init__(
        self,
        problem: Problem,
        w: Tensor | None = None,
        constants: dict[str, Tensor] | None = None,
        *,
        memory: int | None = None,
        chunk: int | None = None,
        micro_batch: int | None = None,
        tf32: bool = False,
    ) -> None:
        for name, value, low in (("memory", memory, 0), ("chunk", chunk, 1), ("micro_batch", micro_batch, 1)):
            if value is not None:
                integer_in(name, value, low)
        require(
            micro_batch is None or problem.batch_norm != "batch",
            "micro_batch must be None under batch_norm='batch', whose statistics are those of whole batches, "
            f"got {micro_batch}; use smaller batches",
        )
        with derivatives_on():
            own = problem.vector()
            if w is not None:
                vector_like("w", w, own)
            self.w = own if w is None else w.detach().clone()
            self._constants = problem.constants() if constants is None else constants
        super().__init__(problem.size, own.dtype, own.device)
        self.problem = problem
        self.chunk, self.micro_batch, self.tf32 = chunk or 1, micro_batch, tf32
        self._memory = memory
        self._rewind = random_state(*problem.generators)  # shuffled data gives the same batches at every product
        self._buffers: dict[str, Tensor] | None = None  # the constants with what the batch-norm policy puts in place
        self._kept: Kept | None = None
        self._once = True  # the graph that is being built serves one block only

    @abstractmethod
    def _linearised(self, batch: Batch) -> Product:
        """One batch's operator at batch.w as a function of a block of vectors, (P, K) to (P, K)."""

    def _cost(self, columns: int, fresh: bool) -> float:
        """Gradients that so many products of a batch cost; `fresh`: its graph had to be built."""
        return GRADIENT * fresh + HESSIAN * columns

    def _keeps_graphs(self) -> bool:
        """Whether a batch's product is worth keeping: it holds a graph."""
        return True

    def _product(self, block: Block) -> Block:
        with derivatives_on(), random_state_kept(*self.problem.generators), full_precision(self.tf32):
            self._rewind()
            if self._buffers is None:
                self._buffers = self._constants | self.problem.statistics(self.w, self._constants)
            if self._kept is None:
                given = self._memory
                self._kept = Kept(*(GRAPH_BYTES, BATCH_BYTES) if given is None else (given, given))
            return self._over_data(block, self._kept)

    def _over_data(self, block: Block, kept: Kept) -> Block:
        known = {held.batch.index: held for held in kept.held} if kept.complete else {}
        fresh: set[int] = set()  # batches without a graph so far
        if not kept.complete:
            kept.begin()

        def term(batch: Batch) -> Block:
            with random_state_kept(*self.problem.generators):  # the data goes on where it was
                held = known.get(batch.index) or kept.take(replace(batch, w=self.w, rewind=self._rewind))
                if held.product is None:
                    fresh.add(batch.index)
                return self._served(held, block)

        image = self.problem.mean(
            term,
            self.w,
            second_order=self._second_order,
            buffers=self._buffers,
            shape=block.shape,
            batches=[held.batch for held in known.values()] if known else None,
            cost=lambda batch: self._cost(block.shape[1], batch.index in fresh),
        )
        kept.complete = len(kept.held) > 0
        return image

    def _served(self, held: Held, block: Block) -> Block:
        """A batch's part, with less memory as often as it takes."""
        while True:
            try:
                return self._attempt(held, block)
            except torch.OutOfMemoryError:
                if not self._gave_way(held):
                    raise
            # once more, here and not above: there the error still holds what the attempt had allocated

    def _attempt(self, held: Held, block: Block) -> Block:
        if held.product is not None:
            return held.product(block)
        keep = held.keep and self._keeps_graphs()
        self._once = not keep
        total, units = None, 0.0
        for piece in pieces(self.problem, held.batch, self.micro_batch):
            product = self._linearised(piece.afresh())
            if keep and self._keeps_graphs():  # the mode may have been chosen on the way
                held.product = product
            if piece is held.batch:
                return product(block)
            total = weighted(total, piece.units, product(block))
            units += piece.units
        assert total is not None  # the batch has a positive weight, so one of its pieces has
        return total / units

    def _gave_way(self, held: Held) -> bool:
        """Whether something was found to save memory with: kept graphs, then columns at once, then rows at once."""
        if self._kept is not None and self._kept.drop_graphs():
            held.keep, held.product = False, None
            return True
        if self.chunk > 1:
            self.chunk //= 2
            return True
        rows = min(self.micro_batch or count(held.batch.targets), count(held.batch.targets))
        if rows == 1 or self.problem.batch_norm == "batch":
            return False
        self.micro_batch = (rows + 1) // 2
        return True
