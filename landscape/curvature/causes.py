"""What may be behind a product that is not right, and what to do: read from the graph of a batch's loss."""

from contextlib import suppress
from typing import Any

import torch

from landscape.problem.batch import Batch
from landscape.problem.placement import graph_nodes

ROOTS = ("Norm", "Sqrt", "Std", "Cdist")  # operations without a second derivative where their result is 0
BRANCHES = ("WhereBackward", "MaskedFillBackward")  # behind which a value may be left out, and its derivative not


def of_disagreement(batch: Batch, asked: str) -> str:
    """Of a product that differences contradict."""
    if not repeatable(batch):
        return "the loss is another one at each evaluation: draw its random numbers from torch's global generator"
    functions = {node.name(): node._forward_cls for node in _nodes(batch) if hasattr(node, "_forward_cls")}
    own = sorted(name for name, function in functions.items() if not function.__module__.startswith("landscape."))
    likely = (
        f"the likely cause is the backward of {own[0]}, which torch cannot differentiate"
        if own
        else "the likely cause is a value that forward detaches, or a derivative taken inside it"
    )
    if asked in ("auto", "central_differences"):
        return f"{likely}; no mode agrees with differences, is the gradient that of the loss?"
    return f"{likely}; use mode='auto'"


def of_infinity(batch: Batch, asked: str) -> str:
    """Of a product that is NaN or infinite where the loss is not."""
    root = root_at_zero(batch)
    if root:
        return f"{root} is taken at 0, where it has no second derivative; write (x.square().sum() + eps).sqrt()"
    branch = any(node.name().startswith(BRANCHES) for node in _nodes(batch))
    likely = "a branch of torch.where that is not used" if branch else "an operation at the edge of where it is defined"
    cure = "give that branch arguments where it is finite" if asked == "auto" else "use mode='auto'"
    return f"the likely cause is {likely}, whose derivative is NaN or infinite; {cure}"


def root_at_zero(batch: Batch) -> str:
    """The norm or root at 0 that the loss depends on, none of whose derivatives a branch may leave out; or ""."""
    found = ""
    for node in _nodes(batch):
        if node.name().startswith(BRANCHES):
            return ""
        if any(word in node.name() for word in ROOTS) and _zero(node):
            found = node.name()
    return found


def repeatable(batch: Batch) -> bool:
    """Whether the loss is the same when it is evaluated again."""
    with torch.no_grad():
        return bool(batch.evaluate(batch.w)[0] == batch.evaluate(batch.w)[0])


def _zero(node: Any) -> bool:
    with suppress(RuntimeError, AttributeError):  # nothing saved, or by torch.func, whose tensors cannot be read
        return bool((node._saved_result == 0).any())
    return False


def _nodes(batch: Batch) -> Any:
    return graph_nodes(batch.loss(batch.w.detach().clone().requires_grad_()).grad_fn)
