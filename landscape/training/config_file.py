"""Settings from a YAML file: names and values, nothing that runs code, every mistake in one line."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import yaml

from landscape.checks import require

NAMES = {int: "an integer", float: "a number", str: "text", bool: "true or false", dict: "a mapping", list: "a list"}


class _Loader(yaml.SafeLoader):
    """The safe loader, and 5e-4 is a number as in YAML 1.2: in 1.1 it is text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_settings(path: str | Path, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The file's settings.

    Args:
        path: a YAML file that holds one mapping.
        kinds: name of each setting that may be there to its type.
    Raises:
        ValueError: if the file is missing or broken, or holds an unknown name or a value of the wrong type.
    """
    try:
        content = yaml.load(Path(path).read_text(), _Loader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path} must be a readable YAML file: {' '.join(str(error).split())}") from error
    require(isinstance(content, dict), f"{path} must hold names and values, got {type(content).__name__}")
    unknown = ", ".join(sorted(str(name) for name in content if name not in kinds))
    require(not unknown, f"{path} must hold the names {', '.join(kinds)}, got {unknown}")
    for name, value in content.items():
        require(_fits(kinds[name], value), f"{path}: {name} must be {_name(kinds[name])}, got {value!r}")
    return dict(content)


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
