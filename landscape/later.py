"""Names of a package that are imported when they are first asked for (PEP 562), because what they stand on is slow."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def later(package: str, places: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of `package`, whose `places` say which module below it has a name.

    Its modules themselves are found too, as if they had been imported: `ls.plots` after `import landscape as ls`.
    """

    def get(name: str) -> Any:
        module = f"{package}.{places.get(name, name)}"
        try:
            if name.startswith("_"):
                raise ModuleNotFoundError(name=module)
            found = import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:  # what it stands on is missing
                raise
            raise AttributeError(f"module {package!r} has no attribute {name!r}") from None
        value = getattr(found, name) if name in places else found
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted({*vars(sys.modules[package]), *places})
