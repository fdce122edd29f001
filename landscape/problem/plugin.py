"""What the user's own code makes, by name: FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION.

Such a name runs code. A run folder or a config that holds one is as trusted as the code it names.
"""

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from landscape.checks import require
from landscape.problem import Problem

Splits = Mapping[str, Iterable[Any]]
FORMS = "FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION"
_FOLDERS: set[Path] = set()  # of the files that were run


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
    made = named_function("problem", name)(*arguments)
    problem, splits = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(problem, Problem):
        raise ValueError(f"{name} must return a Problem or (Problem, splits), got {type(made).__name__}")
    return problem, splits if splits is not None else {"train": problem.data}


def named_function(setting: str, name: str) -> Callable[..., Any]:
    """The function of that name; its file or module is run. What lies beside it can be imported, in its calls too.

    Args:
        setting: what the name was given for, for messages.
        name: such as "my_script.py:make_network" or "package.module:make_network".
    Raises:
        ValueError: if there is no such function, or its module is one of Python's own, which make no networks or data
            and could be made to do anything by a foreign file that names them.
    """
    source, _, function = name.rpartition(":")
    require(bool(source and function), f"{setting} must be {FORMS}, got {name!r}")
    own = source.endswith(".py") or source.partition(".")[0] not in sys.stdlib_module_names
    require(own, f"{setting} must name a function of yours, got {name!r} of Python's own library")
    make = getattr(_module(setting, source), function, None)
    if not callable(make):
        raise ValueError(f"{setting} must name a function in {source}, got {function!r}")
    return _within(_folder(source), make) if isinstance(make, FunctionType) else make


def resolved(name: str) -> str:
    """The same name, with the whole path of a FILE.py: read in another folder it means the same."""
    source, colon, function = name.rpartition(":")
    return f"{Path(source).resolve()}{colon}{function}" if source.endswith(".py") else name


def _folder(source: str) -> Path:
    return (Path(source).parent if source.endswith(".py") else Path()).resolve()


def _within(folder: Path, make: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(make)
    def called(*args: Any, **kwargs: Any) -> Any:
        with _importable(folder):
            return make(*args, **kwargs)

    return called


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """What lies in the folder can be imported, and a module of its name from another such folder is not in the way."""
    others = _FOLDERS - {folder}
    for name in [name for name, module in list(sys.modules.items()) if _place(module) in others] if others else []:
        if "." not in name and name != __name__.partition(".")[0] and _holds(folder, name):
            for own in [own for own in sys.modules if own == name or own.startswith(f"{name}.")]:
                del sys.modules[own]
    _FOLDERS.add(folder)
    path = str(folder)
    sys.path.insert(0, path)
    try:
        yield
    finally:
        if path in sys.path:
            sys.path.remove(path)


def _place(module: Any) -> Path | None:
    """The folder in which a module's file, or a package's folder, lies."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return None
    path = Path(file)
    return path.parent.parent if path.name == "__init__.py" else path.parent


def _holds(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()


def _module(setting: str, source: str) -> ModuleType:
    """The script or module."""
    path = Path(source)
    try:
        with _importable(_folder(source)):
            if not source.endswith(".py"):
                return importlib.import_module(source)
            require(path.is_file(), f"{setting} must name a file that exists, got {source}")
            spec = spec_from_file_location(path.stem, path)
            if spec is None or spec.loader is None:
                raise ValueError(f"{setting} must name a Python file, got {source}")
            module = module_from_spec(spec)
            listed = sys.modules.setdefault(path.stem, module) is module  # dataclasses look for their module there
            try:
                spec.loader.exec_module(module)
            finally:
                if listed:
                    sys.modules.pop(path.stem, None)  # another file may have that name
            return module
    except ModuleNotFoundError as error:
        raise ValueError(f"{setting} {source}: {error}; give a path to a .py file, or install the package") from error
