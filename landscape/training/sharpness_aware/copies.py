"""Which rules a copy of an optimiser may take along."""

import pickle
from collections.abc import Iterator
from functools import partial
from types import FunctionType
from typing import Any

from landscape.checks import first_line, require
from landscape.training.rules import Rule


def require_own_functions(rule: Rule) -> None:
    """Raises ValueError for a rule that asks a function which would go on asking the original's network."""
    asked = [name for name, value in _bound(rule) if isinstance(value, FunctionType)]
    require(
        not asked,
        f"SharpnessAware with rule {rule.name!r} cannot be copied: {', '.join(asked)} would ask the original's "
        "network; give functools.partial(function, problem) or an object's method, which are copied with their network",
    )


def require_picklable(rule: Rule) -> None:
    """Raises ValueError, naming the rule, where pickle would name a function."""
    try:
        pickle.dumps(rule)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"SharpnessAware with rule {rule.name!r} cannot be pickled: {first_line(error)}; define its functions at "
            "the top level of a module and bind their settings by functools.partial"
        ) from error


def _bound(rule: Rule) -> Iterator[tuple[str, Any]]:
    for function in (rule.perturb, rule.descend):
        if isinstance(function, partial):
            yield from function.keywords.items()
