"""Batches as users have them: a tensor, or mappings, lists and tuples of tensors with a common batch axis 0."""

from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any

import torch
from torch import Tensor

from landscape.checks import require


class Keywords(dict[str, Any]):
    """Inputs that the model takes by name, model(**inputs): a batch that was a mapping."""


class Arguments(tuple[Any, ...]):
    """Inputs that the model takes one after another, model(*inputs): a batch of three entries or more."""


def target_count(_inputs: Any, targets: Any) -> int:
    """Units of a batch where nothing else is said: its targets. Raises ValueError if they have no length."""
    nested = isinstance(targets, Mapping) or (
        isinstance(targets, list | tuple) and any(isinstance(t, Tensor) for t in targets[:1])
    )
    single = getattr(targets, "ndim", 1) == 0
    require(
        isinstance(targets, Sized) and not nested and not single,
        f"targets must have a length to count the batch's units, got {shapes(targets)}; "
        + ("batch the samples (batch_size=), or " if single else "")
        + "pass weight=",
    )
    return len(targets)


def to_device(part: Any, device: torch.device) -> Any:
    """`part` with its tensors on `device`, fit for derivatives; the same object if they are so already."""
    return _map(lambda tensor: _differentiable(tensor.to(device, non_blocking=True)), part)


def to_precision(part: Any, dtype: torch.dtype | None) -> Any:
    """`part` with its floating tensors in another precision; None leaves it as it is."""
    if dtype is None:
        return part
    return _map(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor, part)


def rows(part: Any, start: int, stop: int) -> Any:
    """Samples [start, stop) of a batch."""
    return _map(lambda tensor: tensor[start:stop], part)


def taken(part: Any, index: Tensor) -> Any:
    """The samples `index` (n,) of a batch, in that order."""
    return _map(lambda tensor: tensor[index.to(tensor.device)], part)


def join(parts: Sequence[Any]) -> Any:
    """Batches put together along axis 0. Raises ValueError if their samples have different shapes."""
    first = parts[0]
    if isinstance(first, Tensor):
        other = next((part for part in parts if part.shape[1:] != first.shape[1:]), None)
        require(
            other is None,
            f"samples must have one shape to go into one batch, got batches of {shapes(first)} and {shapes(other)}; "
            "pad them to one length",
        )
        return torch.cat(list(parts))
    if isinstance(first, Mapping):
        return _like_mapping(first, {key: join([part[key] for part in parts]) for key in first})
    if isinstance(first, list | tuple):
        values = [join(column) for column in zip(*parts, strict=True)]
        return _like(first, values)
    return first


def nbytes(part: Any) -> int:
    """Bytes of the tensors in a batch."""
    return sum(storage_bytes(tensor) for tensor in tensors_of(part))


def storage_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor's entries, and of its indices where it is sparse."""
    if tensor.layout == torch.strided:
        return tensor.nbytes
    if tensor.layout == torch.jagged:
        return tensor.values().nbytes
    if tensor.layout == torch.sparse_coo:
        return tensor._values().nbytes + tensor._indices().nbytes
    row_wise = tensor.layout in (torch.sparse_csr, torch.sparse_bsr)
    indices = (
        (tensor.crow_indices(), tensor.col_indices()) if row_wise else (tensor.ccol_indices(), tensor.row_indices())
    )
    return tensor.values().nbytes + sum(index.nbytes for index in indices)


def count(part: Any) -> int:
    """Samples of a batch: the length of its first tensor, 1 without any."""
    return next((len(tensor) for tensor in tensors_of(part) if tensor.ndim > 0), 1)


def shapes(part: Any) -> str:
    """Shape and dtype in words, for messages."""
    if isinstance(part, Tensor):
        return f"{tuple(part.shape)} {str(part.dtype).removeprefix('torch.')}"
    if isinstance(part, list | tuple):
        return "(" + ", ".join(shapes(value) for value in part[:3]) + ")"
    return str(getattr(part, "words", type(part).__name__))


def tensors_of(part: Any) -> list[Tensor]:
    """The tensors in a batch."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    _map(note, part)
    return found


def _differentiable(tensor: Tensor) -> Tensor:
    """A tensor made in inference mode as a common one."""
    return tensor.clone() if tensor.is_inference() and not torch.is_inference_mode_enabled() else tensor


def _map(function: Callable[[Tensor], Tensor], part: Any) -> Any:
    if isinstance(part, Tensor):
        return function(part)
    if isinstance(part, Mapping):
        mapped = {key: _map(function, value) for key, value in part.items()}
        return part if all(mapped[key] is part[key] for key in part) else _like_mapping(part, mapped)
    if isinstance(part, list | tuple):
        values = [_map(function, value) for value in part]
        return _like(part, values)
    return part


def _like_mapping(part: Mapping[str, Any], values: dict[str, Any]) -> Mapping[str, Any]:
    return Keywords(values) if isinstance(part, Keywords) else values


def _like(part: Any, values: list[Any]) -> Any:
    """`values` in a container like `part`: list, tuple or named tuple."""
    return type(part)(*values) if hasattr(part, "_fields") else type(part)(values)
