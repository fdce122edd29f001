"""The memory of a product stated before it is made: its whole way is run once on tensors without numbers."""

from contextvars import Context
from copy import copy
from dataclasses import replace

import torch

from landscape.autograd.allocator import keep_freed_memory
from landscape.autograd.peak_memory import shape_alone, without_numbers
from landscape.checks import first_line, integer_in
from landscape.curvature.over_data import OperatorOverData, Report
from landscape.linalg.operator import CurvatureOperator
from landscape.problem.batches import count


def product_memory(operator: CurvatureOperator, columns: int = 1) -> int:
    """Bytes that a product with `columns` vectors will hold at most beyond what is there, with graphs kept as it will.

    Network, data and vectors that exist already are not counted, nor is the check of the first product (verify=True),
    which is made on a part of the parameters. The data is read, and nothing is computed. Processes on a CPU grew by
    this to 2 % (a GPT-2 of 1.4, a ResNet of 0.7 million weights), and once by some 40 MB of code that is loaded, and up
    to 64 MB that the allocator keeps.

    Args:
        operator: of `hessian`, `ggn` or `fisher`, not of a sharded model; it stays as it is.
        columns: vectors at once, as a block of Lanczos or an estimate of the trace asks for.
    Raises:
        ValueError: if columns is below 1, the operator is another one, or the network asks for the values of its
            tensors in a way that shapes alone cannot answer.
    """
    integer_in("columns", columns, 1)
    if not isinstance(operator, OperatorOverData):
        raise ValueError(
            f"operator must be of hessian, ggn or fisher on a model that lies here, got {type(operator).__name__}; a "
            "product of a sharded model holds what training does, see docs/scale.md"
        )
    keep_freed_memory(operator.problem.size)  # once for the process, and then with real memory
    return Context().run(_peak, operator, columns)  # no bill is open there


def _peak(operator: OperatorOverData, columns: int) -> int:
    twin = copy(operator)
    twin.problem = operator.problem._with(_traits=copy(operator.problem._traits))
    twin.problem._traits.known = True  # a look would ask for addresses
    twin.problem.reader = replace(twin.problem.reader, weight=lambda _, targets: float(count(targets)))
    twin.choice, twin.retreat = copy(operator.choice), copy(operator.retreat)
    twin.choice._settled, twin.choice.compare = True, None
    twin._kept, twin._graphs, twin._buffers, twin.report = None, None, None, Report()
    try:
        with without_numbers() as peak:
            twin.w = shape_alone(operator.w)
            twin._constants = {name: shape_alone(own) for name, own in operator._constants.items()}
            block = torch.empty(operator.shape[1], columns, dtype=operator.dtype, device=operator.device)
            given = peak.now
            for _ in range(2):  # the second finds the graphs of the first
                twin.matmat(block)
    except RuntimeError as error:  # NotImplementedError among them
        said = first_line(error)
        raise ValueError(f"the memory of a product cannot be told from shapes alone: {said}; measure it") from error
    return peak.peak - given
