"""Settings: read from a YAML or JSON file, and held against others. Nothing runs code, every mistake is one line."""

import json
import re
from collections.abc import Mapping
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

from landscape.checks import require

LARGEST = 2**20  # bytes of a file
MOST = 100_000  # names and values of a file, where every alias is written out


def read_settings(path: str | Path) -> dict[Any, Any]:
    """The mapping that a YAML file, or a JSON one, which is YAML too, holds.

    Raises:
        ValueError: if the file is missing, broken, too large or too deep, or holds something else.
    """
    import yaml

    try:
        require(Path(path).stat().st_size <= LARGEST, f"more than {LARGEST} bytes")
        loader = _loader()(Path(path).read_text())
        node = loader.get_single_node()
        require(_size(node, {}) <= MOST, f"more than {MOST} values, or an alias of itself; write them out")
        content: Any = None if node is None else loader.construct_document(node)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} must be a readable YAML file: {' '.join(str(error).split())}") from error
    require(isinstance(content, dict), f"{path} must hold names and values, got {type(content).__name__}")
    return dict(content)


@cache
def _loader() -> Any:
    """The safe loader, and 5e-4 and 1.5e3 are numbers as in YAML 1.2: in 1.1 they are text."""
    import yaml

    class Loader(yaml.SafeLoader): ...

    number = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    return Loader


def as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a file gives them back: a tuple is a list there."""
    return dict(json.loads(json.dumps(settings)))


def differing(found: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in which two differ, each with what was found; empty if they are the same. NaN is NaN."""
    found, own = as_json(found), as_json(own)
    return {key: found.get(key) for key in {**found, **own} if not _same(found.get(key), own.get(key))}


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) or json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _size(node: Any, known: dict[int, float]) -> float:
    """Nodes below and at this one, an alias as often as it stands there; infinite where it holds itself."""
    if id(node) not in known:
        known[id(node)] = inf
        value = getattr(node, "value", None)  # an empty file has no node
        parts = value if isinstance(value, list) else []  # a scalar's is text
        flat = [child for part in parts for child in (part if isinstance(part, tuple) else (part,))]
        known[id(node)] = 1 + sum(_size(child, known) for child in flat)
    return known[id(node)]


def foreign(path: Path) -> ValueError:
    """The error for a file given as resume= that no such work has written: it stays, whatever it is."""
    return ValueError(
        f"{path} holds something else than work to go on with; resume= (checkpoint= in 0.1) names a file where this "
        "call keeps what is done, weights belong into the model: name a new file"
    )
