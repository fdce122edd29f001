"""Batches as users have them: a tensor, or mappings, lists and tuples of tensors with a common batch axis 0."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def is_one_pair(data: Any) -> bool:
    """Whether data is one (inputs, targets) rather than a sequence of such pairs."""
    return isinstance(data, Sequence) and len(data) == 2 and not all(is_pair(part) for part in data)


def is_pair(item: Any) -> bool:
    """Whether item may be (inputs, targets)."""
    return isinstance(item, Sequence) and len(item) == 2


def to_device(part: Any, device: torch.device) -> Any:
    """`part` with its tensors on `device`; the same object if they are there already."""
    return _map(lambda tensor: tensor.to(device, non_blocking=True), part)


def rows(part: Any, start: int, stop: int) -> Any:
    """Samples [start, stop) of a batch."""
    return _map(lambda tensor: tensor[start:stop], part)


def join(parts: Sequence[Any]) -> Any:
    """Batches put together along axis 0."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if isinstance(first, Mapping):
        return {key: join([part[key] for part in parts]) for key in first}
    if isinstance(first, list | tuple):
        values = [join(column) for column in zip(*parts, strict=True)]
        return _like(first, values)
    return first


def nbytes(part: Any) -> int:
    """Bytes of the tensors in a batch."""
    return sum(tensor.nbytes for tensor in _tensors(part))


def count(part: Any) -> int:
    """Samples of a batch: the length of its first tensor, 1 without any."""
    return next((len(tensor) for tensor in _tensors(part) if tensor.ndim > 0), 1)


def shapes(part: Any) -> str:
    """Shape and dtype in words, for messages."""
    if isinstance(part, Tensor):
        return f"{tuple(part.shape)} {str(part.dtype).removeprefix('torch.')}"
    if isinstance(part, list | tuple):
        return "(" + ", ".join(shapes(value) for value in part[:3]) + ")"
    return type(part).__name__


def _tensors(part: Any) -> list[Tensor]:
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    _map(note, part)
    return found


def _map(function: Callable[[Tensor], Tensor], part: Any) -> Any:
    if isinstance(part, Tensor):
        return function(part)
    if isinstance(part, Mapping):
        mapped = {key: _map(function, value) for key, value in part.items()}
        return part if all(mapped[key] is part[key] for key in part) else mapped
    if isinstance(part, list | tuple):
        values = [_map(function, value) for value in part]
        return _like(part, values)
    return part


def _like(part: Any, values: list[Any]) -> Any:
    """`values` in a container like `part`: list, tuple or named tuple."""
    return type(part)(*values) if hasattr(part, "_fields") else type(part)(values)
