"""Batches as users have them: a tensor, or mappings, lists and tuples of tensors with a common batch axis 0."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

import torch
from torch import Tensor

from landscape.checks import require


def batches_of(data: Iterable[Any]) -> Iterable[Any]:
    """`data` as batches (inputs, targets): itself, or a list of it if it is one such pair; it is not read.

    Raises:
        ValueError: if it can be read only once, or is no iterable of pairs.
    """
    require(
        isinstance(data, Iterable) and not isinstance(data, Iterator | Tensor | Mapping),
        "data must be (inputs, targets) or an iterable of such pairs that can be read again, "
        f"got {type(data).__name__}; pass a DataLoader or a list",
    )
    one_pair = is_pair(data) and not all(is_pair(part) for part in data)
    return [data] if one_pair else data


def is_pair(item: Any) -> bool:
    """Whether item may be (inputs, targets)."""
    return isinstance(item, Sequence) and len(item) == 2


def target_count(_inputs: Any, targets: Any) -> int:
    """Units of a batch where nothing else is said: its targets. Raises ValueError if they have no length."""
    nested = isinstance(targets, Mapping) or (
        isinstance(targets, list | tuple) and any(isinstance(t, Tensor) for t in targets[:1])
    )
    require(
        isinstance(targets, Sized) and not nested and getattr(targets, "ndim", 1) > 0,
        f"targets must have a length to count the batch's units, got {shapes(targets)}; pass weight=",
    )
    return len(targets)


def to_device(part: Any, device: torch.device) -> Any:
    """`part` with its tensors on `device`; the same object if they are there already."""
    return _map(lambda tensor: tensor.to(device, non_blocking=True), part)


def rows(part: Any, start: int, stop: int) -> Any:
    """Samples [start, stop) of a batch."""
    return _map(lambda tensor: tensor[start:stop], part)


def taken(part: Any, index: Tensor) -> Any:
    """The samples `index` (n,) of a batch, in that order."""
    return _map(lambda tensor: tensor[index.to(tensor.device)], part)


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
