"""The operator of every curvature: (Σ_b u_b A_b / Σ_b u_b) V, one pass over the data for a whole block V.

What A_b is, and the ways to its products, says a `Matrix`. Building a batch's first-order graph costs one gradient,
each product from it about two more. Krylov methods ask for many products at one w: graphs of batches are kept as far
as they fit into a budget of memory, else the batches on the device, and then the data is read once. Where memory runs
out in spite of that, a product goes on with less: see `Retreat`.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from landscape.autograd.allocator import free_bytes
from landscape.autograd.cuda_graphs import Replayed, cuda_graphs
from landscape.autograd.precision import full_precision
from landscape.checks import integer_in, not_negative, require, vector_like
from landscape.curvature.columns import columns_at_once
from landscape.curvature.kept_graphs import Kept
from landscape.curvature.methods import Choice, ColumnsError, Manner, Method, Product, finite
from landscape.curvature.micro_batches import pieces, require_same_in_pieces
from landscape.curvature.retreat import Retreat
from landscape.curvature.verification import Compare
from landscape.linalg.operator import CurvatureOperator
from landscape.problem import Problem
from landscape.problem.batch import Batch
from landscape.problem.cost import charge
from landscape.problem.shards import NO_GRAPH
from landscape.processes import WeightedSum, sums_over
from landscape.side_effects import derivatives_on, random_state, random_state_kept
from landscape.vectors import Block

GRAPHS, BATCHES = 1 / 4, 1 / 8  # shares of the memory that is free at the first product


@dataclass(frozen=True)
class Matrix:
    """What is taken of each batch.

    Attributes:
        name: in messages.
        methods: ways to its products, in the order in which they are tried.
        compare: the difference that a product is held against; None for none.
        size: rows, default P.
    """

    name: str
    methods: Sequence[Method]
    compare: Compare | None
    size: int | None = None


@dataclass(eq=False)
class Report:
    """What the last product did.

    Attributes:
        errors: units and estimated errors (K,) of the batches, where the method has any.
        error_estimate: relative, largest of the columns; 0 where only rounding is left.
        replays: batches whose product was a CUDA graph's, see `cuda_graphs.py`.
        not_replayed: why there will be none, where they are asked for.
    """

    errors: list[tuple[float, Tensor]] = field(default_factory=list)
    error_estimate: float = 0.0
    replays: int = 0
    not_replayed: str = ""

    def close(self, image: Block) -> None:
        """Sum up over the batches."""
        if self.errors:
            units = sum(units for units, _ in self.errors)
            total = torch.stack([share / units * error for share, error in self.errors]).sum(0)
            self.error_estimate = float((total / image.norm(dim=0).clamp(min=torch.finfo(image.dtype).tiny)).max())


@dataclass(frozen=True)
class OperatorSettings:
    """How an operator goes about its products, as `hessian` has it."""

    mode: str = "auto"
    weight_decay: float = 0.0
    memory: int | None = None
    chunk: int | None = None
    micro_batch: int | None = None
    tf32: bool = False
    verify: bool = True
    constants: Mapping[str, Tensor] | None = None

    def __post_init__(self) -> None:
        for name, value, low in (
            ("memory", self.memory, 0),
            ("chunk", self.chunk, 1),
            ("micro_batch", self.micro_batch, 1),
        ):
            if value is not None:
                integer_in(name, value, low)
        not_negative("weight_decay", self.weight_decay)


PLAIN = OperatorSettings()


class OperatorOverData(CurvatureOperator):
    """Weighted mean of the batches' matrices at a fixed w. Making one reads no data.

    Args:
        problem: the scalar function. Its data must stay the same for the life of the operator.
        matrix: what is taken of each batch.
        w: where the curvature is taken, (P,); default a copy of the model's own weights now.
        settings: of `constants` the default are copies of the model's own now, so that the operator stays the same when
            the model moves on.
    Attributes:
        choice: which method serves, and why.
        retreat: how much is done at once.
        report: what the last product did.
    Raises:
        ValueError: if w has another shape, dtype or device, or a setting does not fit the problem.
    """

    def __init__(
        self,
        problem: Problem,
        matrix: Matrix,
        w: Tensor | None = None,
        settings: OperatorSettings = PLAIN,
    ) -> None:
        require(problem.shards is None, f"{matrix.name} needs second derivatives or graphs: {NO_GRAPH}")
        micro_batch = settings.micro_batch
        require(
            micro_batch is None or problem.batch_norm != "batch",
            "micro_batch must be None under batch_norm='batch', whose statistics are those of whole batches, "
            f"got {micro_batch}; use smaller batches",
        )
        compare = matrix.compare if settings.verify else None
        self.choice = Choice(matrix.methods, compare, settings.mode, restrictable=matrix.size is None)
        with derivatives_on():
            own = problem.vector()
            if w is not None:
                vector_like("w", w, own)
            self.w = own if w is None else w.detach().clone()
            self._constants = dict(problem.constants() if settings.constants is None else settings.constants)
        super().__init__(matrix.size or problem.size, own.dtype, own.device)
        self.problem, self.matrix = problem, matrix
        self.weight_decay, self.tf32, self._memory = settings.weight_decay, settings.tf32, settings.memory
        self.retreat = Retreat(settings.chunk or 0, micro_batch)
        self.report = Report()
        self._rewind = random_state(*problem.reader.generators)  # shuffled data gives the same batches at every product
        self._buffers: dict[str, Tensor] | None = None  # the constants with what the batch-norm policy puts in place
        self._kept: Kept | None = None
        self._separable = micro_batch is None
        self._graphs = cuda_graphs(own.device)

    def __getstate__(self) -> dict[str, Any]:
        """Without kept graphs, which belong to this process's memory: a copy makes its own."""
        return vars(self) | {"_kept": None}

    def _facts(self) -> dict[str, Any]:
        return {"matrix": self.matrix.name, **super()._facts(), "mode": self.mode}

    @property
    def mode(self) -> str:
        """What serves the products; "auto" until the first one."""
        return self.choice.mode

    @property
    def reason(self) -> str:
        """Why the mode was chosen."""
        return self.choice.reason

    @property
    def verified(self) -> float | None:
        """Relative disagreement of the first product with differences; None where they decide nothing."""
        return self.choice.comparison.disagreement if self.choice.comparison else None

    @property
    def error_estimate(self) -> float:
        """Of the last product, relative, largest of its columns; 0 where only rounding is left."""
        return self.report.error_estimate

    @property
    def columns(self) -> int:
        """How many columns together cost the least a column."""
        return self._chunk()

    @property
    def chunk(self) -> int:
        """Columns that a batch serves at once by vmap."""
        return self._chunk()

    @property
    def micro_batch(self) -> int | None:
        """Rows of a batch that are run at once; None for all."""
        return self.retreat.micro_batch

    def _product(self, block: Block) -> Block:
        self.report = Report()
        problem, kept, graphs = self.problem, self._prepared(), self._graphs
        replays = graphs.replays if graphs else 0
        with (
            derivatives_on(),
            graphs.beside() if graphs else nullcontext(),
            random_state_kept(*problem.reader.generators),
            full_precision(self.tf32),
            sums_over(problem.process_group, block.shape, block.device) as sums,
        ):
            self._rewind()
            if self._buffers is None:
                self._buffers = self._constants | problem.statistics(self.w, self._constants)
            with problem.batches(
                self.w, second_order=self.choice.method.second_order, buffers=self._buffers, kept=kept.items()
            ) as batches:
                for batch in batches:
                    sums.add(self._image(batch, block, kept), batch.units)
            kept.end()
        image = sums.mean().to(block.dtype)
        if not (self.choice.strict or self.choice.asked != "auto" or finite(image).all()):
            self.choice.strict, self._kept = True, None  # all ranks have the same sum, and go on alike
            return self._product(block)
        self.report.close(image)
        if graphs:
            self.report.replays, self.report.not_replayed = graphs.replays - replays, graphs.failure
        return image.add_(block, alpha=self.weight_decay) if self.weight_decay else image

    def _image(self, batch: Batch, block: Block, kept: Kept) -> Block:
        """A batch's part, with less memory as often as it takes."""
        while True:
            try:
                held, method = kept.of(batch), self.choice.method
                if held.product is not None:
                    batch.put_in_place()
                    charge(batch.units * method.column * block.shape[1])
                    return held.product(block)
                if self.retreat.micro_batch is not None and self.retreat.micro_batch < len(batch):
                    return self._in_pieces(batch, block)
                image, product = self.choice.image(batch, block, self._manner(once=not held.keep))
                method = self.choice.method
                held.product = self._replayed(product) if held.keep and method.keeps and self.choice.settled else None
                charge(batch.units * (method.fresh + method.column * block.shape[1]))
                return image
            except torch.OutOfMemoryError:
                if not self._gave_way(batch, kept):
                    raise
            except ColumnsError:
                self.retreat.chunk = 1
                for one in kept.held.values():
                    one.product = None  # made for more columns at once
            # once more, here and not above: there the error still holds what the attempt had allocated

    def _replayed(self, product: Product) -> Product:
        if self._graphs is None:
            return product
        model = self.problem.model
        return Replayed(product, self._graphs, lambda: [*model.parameters(), *model.buffers()])  # those in place

    def _in_pieces(self, batch: Batch, block: Block) -> Block:
        size, weight = self.retreat.micro_batch, self.problem.weight
        assert size is not None
        if not self._separable:
            require_same_in_pieces(batch, size, weight)
            self._separable = True
        total = WeightedSum()
        for piece in pieces(batch, size, weight):
            image, _ = self.choice.image(piece, block, self._manner(once=True))
            total.add(image, piece.units)
            charge(piece.units * (self.choice.method.fresh + self.choice.method.column * block.shape[1]))
        return total.mean()

    def _manner(self, once: bool) -> Manner:
        return Manner(self._chunk(), once, lambda units, errors: self.report.errors.append((units, errors)))

    def _chunk(self) -> int:
        if self.retreat.chunk == 0:
            self.retreat.chunk = columns_at_once(self.problem.layout.sizes, self.device)
        return self.retreat.chunk

    def _prepared(self) -> Kept:
        if self._kept is None:
            if self._memory is not None:
                self._kept = Kept(self._memory, self._memory)
            else:
                free = free_bytes(self.device)
                self._kept = Kept(int(GRAPHS * free), int(BATCHES * free))
        return self._kept

    def _gave_way(self, batch: Batch, kept: Kept) -> bool:
        """Whether something was found to save memory with: kept graphs, then columns at once, then rows at once."""
        if kept.drop_graphs():
            return True
        rows = len(batch)
        if self.retreat.chunk <= 1 and self.problem.batch_norm == "batch":
            return False
        before = self.retreat.micro_batch
        if not self.retreat.give_way(rows):
            return False
        self._separable = self._separable and self.retreat.micro_batch == before
        return True
