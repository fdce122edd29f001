"""What a copy of an optimiser takes along, and which rules it may."""

import copy
import io
import pickle
from collections.abc import Iterator
from functools import partial
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from landscape.checks import first_line, require
from landscape.training.rules import Rule

STATE = "keep its state_dict"


def require_own_functions(rule: Rule) -> None:
    """Raises ValueError for a rule that asks a function which would go on asking the original's network."""
    asked = [name for name, value in _bound(rule) if isinstance(value, FunctionType)]
    require(
        not asked,
        f"SharpnessAware with rule {rule.name!r} cannot be copied: {', '.join(asked)} would ask the original's "
        "network; give functools.partial(function, problem) or an object's method, which are copied with their network",
    )


def require_picklable(rule: Rule, base: torch.optim.Optimizer) -> None:
    """Raises ValueError, naming the rule or the base, where pickle would name a function."""
    cure = "define its functions at the top level of a module and bind their settings by functools.partial"
    for who, what in ((f"rule {rule.name!r}", rule), (f"the base {type(base).__name__}", attributes_of(base))):
        try:
            _Outline(io.BytesIO()).dump(what)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(
                f"SharpnessAware with {who} cannot be pickled: {first_line(error)}; {cure if what is rule else STATE}"
            ) from error


def require_copies(base: torch.optim.Optimizer) -> None:
    """Raises ValueError for a base of which Python makes no copy."""
    try:
        copy.copy(base)
    except (AttributeError, TypeError) as error:
        raise ValueError(f"the base {type(base).__name__} cannot be copied: {first_line(error)}; {STATE}") from error


def attributes_of(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What it keeps beside state and groups, which torch's copies leave out; not what schedulers put there."""
    plain = vars(torch.optim.SGD([torch.zeros((), device="cpu")]))
    return {name: value for name, value in vars(optimizer).items() if name not in {*plain, "step", "_opt_called"}}


class _Outline(pickle.Pickler):
    """Without the numbers, and without networks, which are not the rule's."""

    def persistent_id(self, found: Any) -> str | None:
        return "numbers" if isinstance(found, Tensor | nn.Module | np.ndarray) else None


def _bound(rule: Rule) -> Iterator[tuple[str, Any]]:
    for function in (rule.perturb, rule.descend):
        if isinstance(function, partial):
            yield from function.keywords.items()
