"""The networks that the bundled trainer trains."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from landscape.checks import first_line, one_of
from landscape.models.by_name import built, network_maker
from landscape.models.mixer import mixer
from landscape.models.mlp import mlp
from landscape.models.resnet import resnet
from landscape.models.vgg import vgg
from landscape.models.vit import vit
from landscape.models.wrn import wrn
from landscape.side_effects import random_state_kept

MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "resnet": resnet,
    "wrn": wrn,
    "vgg": vgg,
    "vit": vit,
    "mixer": mixer,
}

__all__ = ["MODELS", "build", "mixer", "mlp", "resnet", "vgg", "vit", "wrn"]


def build(name: str, settings: Mapping[str, Any], seed: int) -> nn.Module:
    """The network MODELS[name](**settings), initialised from `seed`; the global random state stays as it was.

    `name` may also be FILE.py:FUNCTION, PACKAGE.MODULE:FUNCTION, timm:NAME or torchvision:NAME.

    Raises:
        ValueError: if the name or a setting is unknown or out of range.
        ImportError: if timm or torchvision is asked for and does not load.
    """
    make = model_maker(name)
    with random_state_kept():
        torch.manual_seed(seed)
        try:
            return built(name, make(**settings))
        except TypeError as error:
            raise ValueError(f"model {name!r} cannot be built with {dict(settings)}: {first_line(error)}") from error


def model_maker(name: str) -> Callable[..., nn.Module]:
    """What makes the network. Raises ValueError if the name is unknown."""
    if ":" in name:
        return network_maker(name)
    one_of("model", name, MODELS)
    return MODELS[name]
