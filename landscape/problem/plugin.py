"""A problem that the user's own code makes, named on the command line: FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION."""

import importlib
import sys
from collections.abc import Iterable, Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from landscape.checks import require
from landscape.problem import Problem

Splits = Mapping[str, Iterable[Any]]


def load_problem(name: str, *arguments: Any) -> tuple[Problem, Splits]:
    """Call the function.

    Args:
        name: such as "my_script.py:make_problem". The function returns a Problem, or (Problem, {"train": data, ...}).
        arguments: what it is called with; default nothing.
    Returns:
        The problem and its splits, {"train": its own data} where it names none.
    Raises:
        ValueError: if there is no such function, or it returns something else.
    """
    source, _, function = name.rpartition(":")
    require(bool(source), f"problem must be FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION, got {name!r}")
    make = getattr(_module(source), function, None)
    if not callable(make):
        raise ValueError(f"problem must name a function in {source}, got {function!r}")
    made = make(*arguments)
    problem, splits = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(problem, Problem):
        raise ValueError(f"{name} must return a Problem or (Problem, splits), got {type(made).__name__}")
    return problem, splits if splits is not None else {"train": problem.data}


def _module(source: str) -> ModuleType:
    """The script or module; what lies beside it can be imported, as when it is run by itself."""
    path = Path(source)
    folder = path.parent if source.endswith(".py") else Path()
    sys.path.insert(0, str(folder.resolve()))
    try:
        if not source.endswith(".py"):
            return importlib.import_module(source)
        require(path.is_file(), f"problem must name a file that exists, got {source}")
        spec = spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise ValueError(f"problem must name a Python file, got {source}")
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    except ModuleNotFoundError as error:
        raise ValueError(f"problem {source}: {error}; give a path to a .py file, or install the package") from error
    finally:
        sys.path.pop(0)
