"""Hessian of the loss, H = ∇²L(w), or of the regularised loss, ∇²(L + λ|w|²/2) = H + λI.

Three ways to H v, one file each: double backward, forward over reverse, central differences of gradients.
"""

from typing import Any

import torch
from torch import Tensor

from landscape.checks import not_negative, one_of
from landscape.cost import DIFFERENCES, FORWARD_OVER_REVERSE
from landscape.curvature.central_differences import best_step, central_differences
from landscape.curvature.choice import chosen
from landscape.curvature.double_backward import double_backward
from landscape.curvature.forward_over_reverse import forward_over_reverse
from landscape.curvature.kept_graphs import Held
from landscape.curvature.over_data import OperatorOverData, Product
from landscape.problem import Problem
from landscape.program import Batch
from landscape.vectors import Block

MODES = ("auto", "double_backward", "forward_over_reverse", "central_differences")


def hessian(
    problem: Problem,
    w: Tensor | None = None,
    *,
    mode: str = "auto",
    weight_decay: float = 0.0,
    memory: int | None = None,
    chunk: int | None = None,
    micro_batch: int | None = None,
    tf32: bool = False,
) -> "Hessian":
    """Hessian of the mean loss as an operator (P, P).

    Args:
        problem: the scalar function; its data is read at each product, not here.
        w: where, (P,); default the model's own weights at the time of this call.
        mode: "double_backward" (keeps first-order graphs within `memory`) | "forward_over_reverse" |
            "central_differences" (gradients alone, with an error estimate) | "auto": double backward where the graphs
            fit, else the faster on one batch, and differences where a second derivative is missing.
        weight_decay: λ of a term λ|w|²/2 in the loss.
        memory: bytes for kept graphs, and as many for kept batches; 0 keeps nothing; default 1 GiB each.
        chunk: columns of a block that a batch serves at once by vmap; default 1, which takes the least memory. Small
            layers gain: with 10 a column of 20 takes 1.06 gradients on the digits network, one by one 1.79.
        micro_batch: rows of a batch that are run at once; default all.
        tf32: leave TensorFloat-32 as the user has it; default off during products.
    Returns:
        Operator in loss units per parameter unit squared. After a product `mode` and `reason` say what was chosen and
        `error_estimate` how far off that product may be. A product raises ValueError on a NaN or infinite loss.
    Raises:
        ValueError: if a setting is out of range.
    """
    return Hessian(
        problem,
        w,
        mode=mode,
        weight_decay=weight_decay,
        memory=memory,
        chunk=chunk,
        micro_batch=micro_batch,
        tf32=tf32,
    )


class Hessian(OperatorOverData):
    """∇²L(w) + λI.

    Attributes:
        mode: what serves the products; "auto" until the first one.
        reason: why.
        error_estimate: of the last product, relative, largest of its columns; 0 where only rounding is left.
    """

    def __init__(
        self,
        problem: Problem,
        w: Tensor | None = None,
        constants: dict[str, Tensor] | None = None,
        *,
        mode: str = "auto",
        weight_decay: float = 0.0,
        **settings: Any,
    ) -> None:
        one_of("mode", mode, MODES)
        not_negative("weight_decay", weight_decay)
        super().__init__(problem, w, constants, **settings)
        self.mode, self.reason = mode, "" if mode == "auto" else "asked for"
        self.weight_decay = weight_decay
        self.error_estimate = 0.0
        self._second_order = mode != "central_differences"  # alone, first derivatives may use the fused kernels
        self._step: float | None = None  # of differences, the same for all products
        self._errors: list[tuple[float, Tensor]] = []  # units and (K,) of the batches of the product that runs

    def _product(self, block: Block) -> Block:
        self._errors.clear()
        image = super()._product(block)
        if self._errors:
            units = sum(units for units, _ in self._errors)
            errors = torch.stack([share / units * error for share, error in self._errors]).sum(0)
            self.error_estimate = float((errors / image.norm(dim=0).clamp(min=torch.finfo(self.dtype).tiny)).max())
        return image + self.weight_decay * block if self.weight_decay else image

    def _cost(self, columns: int, fresh: bool) -> float:
        if self.mode == "double_backward":
            return super()._cost(columns, fresh)
        return columns * (FORWARD_OVER_REVERSE if self.mode == "forward_over_reverse" else DIFFERENCES)

    def _keeps_graphs(self) -> bool:
        return self.mode in ("auto", "double_backward")

    def _attempt(self, held: Held, block: Block) -> Block:
        if self.mode == "auto" and held.keep:  # from a kept graph nothing is faster, so nothing else is tried first
            self.mode, self.reason = "double_backward", "the graphs fit in memory: about two gradients a product"
            try:
                return super()._attempt(held, block)
            except torch.OutOfMemoryError:
                self.mode = "auto"
                raise
            except (RuntimeError, ValueError):
                self.mode = "auto"
        return super()._attempt(held, block)

    def _linearised(self, batch: Batch) -> Product:
        if self.mode == "auto":
            self.mode, self.reason = chosen(batch)
        if self.mode == "double_backward":
            return double_backward(batch, chunk=self.chunk, once=self._once)
        if self.mode == "forward_over_reverse":
            return forward_over_reverse(batch, chunk=self.chunk)
        if self._step is None:
            self._step = best_step(batch, batch.w.cos())
        return central_differences(batch, self._step, lambda units, error: self._errors.append((units, error)))
