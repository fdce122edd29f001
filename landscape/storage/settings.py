"""Names and values from a YAML or JSON file: nothing that runs code, every mistake in one line."""

import re
from pathlib import Path
from typing import Any

import yaml

from landscape.checks import require


class _Loader(yaml.SafeLoader):
    """The safe loader, and 5e-4 and 1.5e3 are numbers as in YAML 1.2: in 1.1 they are text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"), list("-+.0123456789")
)


def read_settings(path: str | Path) -> dict[Any, Any]:
    """The mapping that a YAML file, or a JSON one, which is YAML too, holds.

    Raises:
        ValueError: if the file is missing or broken, or holds something else.
    """
    try:
        content = yaml.load(Path(path).read_text(), _Loader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path} must be a readable YAML file: {' '.join(str(error).split())}") from error
    require(isinstance(content, dict), f"{path} must hold names and values, got {type(content).__name__}")
    return dict(content)
