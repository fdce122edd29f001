"""Whether a module's call may be made once more: it is a function of its arguments and weights, used by its outputs.

The first call has a graph that keeps no tensor and that no derivative may enter: where one does, something of the call
is used besides its outputs (an attribute, a list that a hook fills, an object), which would have no derivative. What
is computed anew must give the same as before: of each output Y two numbers are kept, rᵀY c and |Y|, with
r_i = c_i = sin i, which tell Y from other numbers and from its own in another order.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from landscape.checks import first_line
from landscape.problem.placement import graph_nodes

Refuse = Callable[[str], Any]  # of what it does
ELSEWHERE = (
    "takes derivatives inside, or gives tensors that are used elsewhere than in its outputs (an attribute, an object, "
    "a list that a hook fills)"
)
INSIDE = "uses weights that are neither its own nor its arguments, or takes derivatives inside"
WRITES = "writes into its inputs or buffers"
OTHERWISE = (
    "gives something else when it is computed anew: it reads what changes (a counter, an attribute or buffer that is "
    "set for each call, a generator of its own)"
)


class Mark(NamedTuple):
    """What tells an output from others."""

    shape: torch.Size
    coarsest: float  # ε of what it is computed in
    numbers: tuple[Tensor, Tensor] | None  # rᵀY c and |Y|; None where it is empty or no rows of numbers


def stand_ins(tensors: Sequence[Tensor], refuse: Refuse) -> list[Tensor]:
    """Aliases whose derivative is refused."""
    found = [tensor.view_as(tensor) for tensor in tensors]
    for own in found:
        if own.requires_grad:
            own.register_hook(lambda _: refuse(ELSEWHERE))
    return found


@contextmanager
def only_looked_at(refuse: Refuse) -> Iterator[None]:
    """Within the block graphs keep no tensor; what torch complains of there is a reason to refuse the module."""
    try:
        with torch.enable_grad(), saved_tensors_hooks(lambda _: None, lambda _: refuse(ELSEWHERE)):
            yield
    except RuntimeError as error:
        said = first_line(error)
        if "in-place" in said or "inplace" in said:
            refuse(WRITES)
        if "saved tensor hooks" in said:  # torch.func
            refuse(INSIDE)
        raise


def made_of(outputs: Sequence[Tensor], tensors: Sequence[Tensor]) -> bool:
    """Whether nothing else that has derivatives leads to these outputs."""
    ends = [own.grad_fn for own in tensors]
    return not any(hasattr(node, "variable") for node in graph_nodes(*(y.grad_fn for y in outputs), without=ends))


def shared(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Those that share their memory: what is written into one would change another one's derivative."""
    places = [own.untyped_storage()._cdata if own.layout == torch.strided else id(own) for own in outputs]
    counts = Counter(places)
    return [own for own, place in zip(outputs, places, strict=True) if counts[place] > 1]


def marks(outputs: Sequence[Tensor], inner: torch.dtype | None) -> list[Mark]:
    """Of each output; `inner` is a precision that it may be computed in, such as autocast's."""
    return [_mark(own.detach(), inner) for own in outputs]


def alike(one: Sequence[Mark], two: Sequence[Mark]) -> bool:
    """Whether they are the same to half the digits: kernels and their order of summation may be others."""
    return [own.shape for own in one] == [own.shape for own in two] and all(map(_alike, one, two))


def _mark(own: Tensor, inner: torch.dtype | None) -> Mark:
    if own.layout != torch.strided or own.is_nested or own.numel() == 0:
        return Mark(own.shape, 0.0, None)
    Y = torch.view_as_real(own.resolve_conj()) if own.is_complex() else own
    Y = Y if Y.is_floating_point() else Y.float()
    Y = Y.reshape(-1, Y.shape[-1] if Y.ndim else 1)
    r, c = (torch.arange(1, n + 1, dtype=torch.float32, device=Y.device).sin().to(Y.dtype) for n in Y.shape)
    eps = max(torch.finfo(dtype).eps for dtype in (Y.dtype, inner or Y.dtype))
    return Mark(own.shape, eps, ((Y @ c) @ r, torch.linalg.vector_norm(Y, dtype=_wide(Y.dtype))))


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _alike(one: Mark, two: Mark) -> bool:
    if one.numbers is None or two.numbers is None:
        return one.numbers is two.numbers
    largest = torch.maximum(one.numbers[1], two.numbers[1])
    off = [(a - b).abs() for a, b in zip(one.numbers, two.numbers, strict=True)]
    return all(bool((own > one.coarsest**0.5 * largest).logical_not()) for own in off)  # NaN and infinity pass
