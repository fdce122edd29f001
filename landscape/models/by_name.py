"""Networks of other libraries and of the user's own code, by name."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from torch import nn

from landscape.checks import first_line
from landscape.problem.plugin import FORMS, named_function

LIBRARIES = ("timm", "torchvision")
OTHER = f"{FORMS}, timm:NAME, torchvision:NAME"


def network_maker(name: str) -> Callable[..., nn.Module]:
    """What makes the network `name`, one of OTHER, from its settings.

    timm's networks start as timm has them, torchvision's likewise (no weights are fetched unless a setting asks).

    Raises:
        ValueError: if there is no such function.
        ImportError: if the library is not there or does not load.
    """
    library, _, own = name.partition(":")
    if library not in LIBRARIES:
        return named_function("model", name)
    return partial(_make(library), own)


def _make(library: str) -> Callable[..., nn.Module]:
    try:
        if library == "timm":
            return import_module("timm").create_model
        return import_module("torchvision.models").get_model
    except Exception as error:  # a torchvision built for another torch ends in a RuntimeError
        cure = "pip install 'landscape-toolkit[networks]'"
        raise ImportError(f"model {library}:NAME needs {library}: {first_line(error)}; {cure}") from error


def built(name: str, made: Any) -> nn.Module:
    """What the function returned. Raises ValueError unless it is a network."""
    if not isinstance(made, nn.Module):
        raise ValueError(f"model {name} must be a torch.nn.Module, got {type(made).__name__}")
    return made
