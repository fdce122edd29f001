"""How people's batches become (inputs, targets), and how a model is called with what was not one tensor.

Pairs, mappings with "labels", triples and longer tuples; anything else by `split=` and `forward=` of a `Problem`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from inspect import Parameter, signature
from typing import Any, TypeGuard

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from landscape.checks import require
from landscape.problem.batches import Arguments, Keywords, shapes

LABELS = (
    "labels",
    "label",
    "label_ids",
)  # under which a batch that is a mapping has its targets, the first that it has
Split = Callable[[Any], tuple[Any, Any]]


def batches_of(data: Iterable[Any], split: Split | None = None) -> Iterable[Any]:
    """`data` as an iterable of batches: itself, or a list of it if it is one batch; it is not read.

    One batch is a pair of tensors, and where the default `split` takes it apart a mapping or several tensors. The
    first batch of a list, which costs nothing to look at, must be one that it can take apart.

    Raises:
        ValueError: if it can be read only once, is no iterable of batches, or the list's first is none.
    """
    default = split in (None, split_item)
    one_mapping = isinstance(data, Mapping) and (not default or _label(data) is not None)
    again = isinstance(data, Iterable) and not isinstance(data, Iterator | Tensor | Mapping | str | bytes)
    cure = (
        "pass the data of one split, or say by split=" if isinstance(data, Mapping) else "pass a DataLoader or a list"
    )
    require(
        one_mapping or again,
        "data must be (inputs, targets) or an iterable of such pairs that can be read again, "
        f"got {_told(data)}; {cure}",
    )
    if is_pair(data):
        loaders = all(isinstance(part, DataLoader | Dataset) for part in data)
        require(not loaders, f"data must be of one split, got two, {shapes(data)}; pass one, slices take both as data=")
    one_pair = is_pair(data) and not all(_may_be_batch(part) for part in data)
    several = default and _in_memory(data) and len(data) > 2 and all(isinstance(part, Tensor) for part in data)
    found = [data] if one_pair or one_mapping or several else data
    if default and _in_memory(found) and found:
        split_at(0, found[0], split_item)
    return found


def _in_memory(data: Any) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    """Whether nothing is read where an item is asked for; a class of one's own may do so."""
    return type(data) in (list, tuple)


def _may_be_batch(part: Any) -> bool:
    return isinstance(part, Mapping) or (isinstance(part, Sequence) and len(part) > 1)


def is_pair(item: Any) -> bool:
    """Whether item may be (inputs, targets)."""
    return isinstance(item, Sequence) and len(item) == 2


def split_item(item: Any) -> tuple[Any, Any]:
    """An item of the data as (inputs, targets).

    A pair as it is; of a mapping "labels" ("label" or "label_ids", where it has none) are the targets and the rest the
    inputs, which the model takes by name; of a longer sequence the last entry is the targets, and the model takes the
    others one after another.

    Raises:
        ValueError: if it is none of these.
    """
    if is_pair(item):
        arrays = any(isinstance(part, np.ndarray) for part in item)
        require(not arrays, f"expected tensors, got {shapes(item)}; pass torch.from_numpy(...) of each array")
        return item[0], item[1]
    label = _label(item) if isinstance(item, Mapping) else None
    if label is not None:
        return Keywords({name: part for name, part in item.items() if name != label}), item[label]
    if isinstance(item, list | tuple) and len(item) > 2:
        return Arguments(item[:-1]), item[-1]
    raise ValueError(f"expected (inputs, targets), got {_told(item)}; say how to take it apart by split=")


def call_model(model: Any, inputs: Any) -> Any:
    """The model's outputs.

    A batch that was a mapping goes to it by name, and of what it gives then the logits are taken where there are some;
    one that was of several entries goes to it one after another. So do the inputs of a pair, a mapping whose names
    forward has, or a tuple where it asks for more than one.

    Raises:
        ValueError: if the batch has a name that forward lacks.
    """
    if isinstance(inputs, Keywords):
        return _called_by_name(model, inputs)
    if isinstance(inputs, Arguments):
        return model(*inputs)
    if isinstance(inputs, Mapping) and inputs.keys() <= _parameters_of(model).keys():
        return _called_by_name(model, inputs)
    if isinstance(inputs, list | tuple) and len(inputs) > 1 and _asks_for_several(model):
        return model(*inputs)
    return model(inputs)


def _label(item: Mapping[str, Any]) -> str | None:
    """The name under which a mapping has its targets."""
    return next((name for name in LABELS if name in item), None)


def split_at(index: int, item: Any, split: Split) -> tuple[Any, Any]:
    """`split(item)`; where that raises a ValueError, it names the batch."""
    try:
        return split(item)
    except ValueError as error:
        raise ValueError(f"batch {index}: {error}") from error


def _told(part: Any) -> str:
    """`shapes`, and what a mapping has in place of labels."""
    if not isinstance(part, Mapping):
        return shapes(part)
    return f'{type(part).__name__} of {", ".join(map(str, part)) or "nothing"} without "labels"'


def _called_by_name(model: Any, inputs: Mapping[str, Any]) -> Any:
    try:
        outputs = model(**inputs)
    except TypeError as error:
        known = _parameters_of(model)
        extra = [] if any(p.kind == p.VAR_KEYWORD for p in known.values()) else sorted(inputs.keys() - known.keys())
        if not (known and extra):
            raise
        raise ValueError(
            f"the batch's names must be those of forward, {', '.join(known)}, got {', '.join(extra)} besides; leave "
            "them out by split=, or pass forward="
        ) from error
    return outputs.logits if hasattr(outputs, "logits") else outputs


def _asks_for_several(model: Any) -> bool:
    places = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p for p in _parameters_of(model).values() if p.kind in places and p.default is p.empty]
    return len(needed) > 1


def _parameters_of(model: Any) -> Mapping[str, Parameter]:
    """Of forward; none where it does not say, as a compiled or scripted one."""
    try:
        return signature(model.forward).parameters
    except (TypeError, ValueError):
        return {}
