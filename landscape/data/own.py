"""Data of the user's own: a function, FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION, that gives training and test set."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, default_collate

from landscape.checks import first_line, require
from landscape.data.images import Images
from landscape.data.lazy import Lazy, lazy
from landscape.problem.plugin import named_function

FORM = "(train, test), each a pair of tensors (inputs, targets), a Dataset or a DataLoader of such pairs, or Images"


def own_data(name: str, path: str, settings: Mapping[str, Any], lazily: bool = False) -> Images | Lazy:
    """What the function gives, as it is: nothing is standardised.

    Args:
        name: of the function, called with `path`, or with nothing where that is empty.
        path: whatever it is to the function.
        settings: its keywords.
        lazily: whether to read data sets as they are used; streams always are.
    Returns:
        Images with as many classes as the largest label says, or `train.classes` where it has those.
    Raises:
        ValueError: if there is no such function, or it gives something else.
    """
    make = named_function("dataset", name)
    try:
        made = make(*([path] if path else []), **settings)
    except TypeError as error:
        raise ValueError(f"dataset {name} cannot be had with {dict(settings)}: {first_line(error)}") from error
    if isinstance(made, Images):
        require(not lazily, f"dataset {name} gives Images, which are in memory: leave out lazy and workers")
        return made
    require(isinstance(made, tuple | list) and len(made) == 2, f"dataset {name} must give {FORM}, got {_kind(made)}")
    if lazily or any(isinstance(part, IterableDataset) for part in made):
        loader = any(isinstance(part, DataLoader) for part in made)
        require(not loader, f"dataset {name} must give the data set, not a DataLoader, to be read lazily")
        return lazy(name, made, getattr(made[0], "classes", None))
    with torch.device("cpu"):
        (x, y), (test_x, test_y) = (_tensors(name, part) for part in made)
    low, high = (int(f(torch.stack([f(y), f(test_y)]))) for f in (torch.min, torch.max))
    classes = len(getattr(made[0], "classes", ())) or high + 1
    require(low >= 0 and high < classes, f"dataset {name}: labels must be in [0, {classes}), got {low} to {high}")
    sizes = tuple(x.shape[1:]), tuple(test_x.shape[1:])
    require(sizes[0] == sizes[1], f"dataset {name} must have inputs of one shape, got {sizes[0]} and {sizes[1]}")
    return Images(x, y, test_x, test_y, y, classes)


def _tensors(name: str, part: Any) -> tuple[Tensor, Tensor]:
    """Inputs (N, ...) and whole-numbered targets (N, ...)."""
    try:
        if isinstance(part, DataLoader):
            inputs, targets = (torch.cat(batches) for batches in zip(*part, strict=True))
        elif isinstance(part, TensorDataset):
            inputs, targets = part.tensors
        elif isinstance(part, tuple | list) and len(part) == 2:
            inputs, targets = (torch.as_tensor(each) for each in part)
        else:
            inputs, targets = default_collate([part[index] for index in range(len(part))])
    except (TypeError, ValueError, RuntimeError, IndexError, KeyError) as error:
        raise ValueError(f"dataset {name} must give {FORM}, got {_kind(part)}: {first_line(error)}") from error
    require(
        isinstance(inputs, Tensor), f"dataset {name} must give a tensor or an array for each input, got {_kind(inputs)}"
    )
    whole = isinstance(targets, Tensor) and not (targets.is_floating_point() or targets.is_complex())
    fits = whole and len(inputs) == len(targets) > 0
    require(
        fits, f"dataset {name} must give a whole-numbered target for each input, at least one, got {_kind(targets)}"
    )
    return inputs.cpu(), targets.long().cpu()


def _kind(value: Any) -> str:
    return f"{value.dtype!s} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
