"""Whether settings from a file have the names and types of a config's fields."""

from collections.abc import Mapping
from types import UnionType
from typing import Any, get_args, get_origin

from landscape.checks import require

NAMES = {int: "an integer", float: "a number", str: "text", bool: "true or false", dict: "a mapping", list: "a list"}


def check_types(settings: Mapping[Any, Any], kinds: Mapping[str, Any], where: object) -> None:
    """Raise ValueError unless every setting has a known name, and a value of its type.

    Args:
        settings: as they were read.
        kinds: name of each setting that may be there to its type.
        where: what they were read from, for the message.
    """
    unknown = ", ".join(sorted(str(name) for name in settings if name not in kinds))
    require(not unknown, f"{where} must hold the names {', '.join(kinds)}, got {unknown}")
    for name, value in settings.items():
        require(_fits(kinds[name], value), f"{where}: {name} must be {_name(kinds[name])}, got {value!r}")


def _fits(kind: Any, value: object) -> bool:
    """Whether a field of this type may hold the value; true and false are no numbers."""
    if isinstance(kind, UnionType):
        return any(_fits(part, value) for part in get_args(kind))
    if isinstance(value, list) and get_origin(kind) is list:
        return all(_fits(get_args(kind)[0], item) for item in value)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else get_origin(kind) or kind)


def _name(kind: Any) -> str:
    parts = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    known = [NAMES[get_origin(part) or part] for part in parts if (get_origin(part) or part) in NAMES]
    inside = f" of which each is {_name(get_args(kind)[0])}" if get_origin(kind) is list else ""
    return " or ".join(known) + inside
