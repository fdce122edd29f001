"""Hessian of the loss, H = ∇²L(w), or of the regularised loss, ∇²(L + λ|w|²/2) = H + λI.

Three ways to H v, one file each: double backward, forward over reverse, central differences of gradients.
"""

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from landscape.curvature.central_differences import Differences, central_differences
from landscape.curvature.double_backward import double_backward
from landscape.curvature.forward_over_reverse import forward_over_reverse
from landscape.curvature.methods import Method
from landscape.curvature.over_data import Matrix, OperatorOverData, OperatorSettings
from landscape.curvature.sharded import ShardedHessian, sharded_hessian
from landscape.curvature.verification import compare_gradients
from landscape.problem import Problem
from landscape.problem.batch import Batch
from landscape.problem.cost import DIFFERENCES, FORWARD_OVER_REVERSE, GRADIENT, HESSIAN


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
    verify: bool = True,
    constants: Mapping[str, Tensor] | None = None,
) -> OperatorOverData | ShardedHessian:
    """Hessian of the mean loss as an operator (P, P).

    Args:
        problem: the scalar function; its data is read at each product, not here. On a sharded model (FSDP2, DTensor)
            products are differences of whole gradients, see `sharded.py`, and the other settings are left out.
        w: where, (P,); default the model's own weights at the time of this call.
        mode: "double_backward" (keeps first-order graphs within `memory`) | "forward_over_reverse" |
            "central_differences" (gradients alone, with an error estimate) | "auto": the first of them that raises
            nothing and agrees with differences.
        weight_decay: λ of a term λ|w|²/2 in the loss.
        memory: bytes for kept graphs, and as many for kept batches; 0 keeps nothing; default a quarter of what is free
            at the first product for graphs, an eighth for batches.
        chunk: columns of a block that a batch serves at once by vmap; default by a rule, see `columns.py`.
        micro_batch: rows of a batch that are run at once; default all.
        tf32: leave TensorFloat-32 as the user has it; default off during products.
        verify: hold the first product against differences of gradients on one batch, see `verification.py`.
        constants: the model's other parameters and its buffers; default copies of its own now.
    Returns:
        Operator in loss units per parameter unit squared. After a product `mode` and `reason` say what was chosen,
        `verified` how far it agrees with differences, and `error_estimate` how far off that product may be. A product
        raises ValueError on a NaN or infinite loss, and where a mode asked for by name disagrees with differences.
    Raises:
        ValueError: if a setting is out of range.
    """
    if problem.shards is not None:
        others = {"memory": memory, "chunk": chunk, "micro_batch": micro_batch, "tf32": tf32, "constants": constants}
        return sharded_hessian(problem, w, mode, weight_decay=weight_decay, verify=verify, **others)
    by_differences = partial(central_differences, differences=Differences(Batch.gradient))
    plain = "double backward as torch has it, without the layers' own second derivatives"
    methods = [
        Method("double_backward", double_backward, True, GRADIENT, HESSIAN, about="about two gradients a product"),
        Method("double_backward", partial(double_backward, fast=False), True, GRADIENT, HESSIAN, about=plain),
        Method("forward_over_reverse", forward_over_reverse, False, 0.0, FORWARD_OVER_REVERSE),
        Method("central_differences", by_differences, False, 0.0, DIFFERENCES, second_order=False),
    ]
    settings = OperatorSettings(mode, weight_decay, memory, chunk, micro_batch, tf32, verify, constants)
    return OperatorOverData(problem, Matrix("hessian", methods, compare_gradients), w, settings)
