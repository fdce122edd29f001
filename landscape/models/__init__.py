"""The networks that the bundled trainer trains."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from landscape.checks import one_of
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

    Raises:
        ValueError: if the name or a setting is unknown or out of range.
    """
    one_of("model", name, MODELS)
    with random_state_kept():
        torch.manual_seed(seed)
        try:
            return MODELS[name](**settings)
        except TypeError as error:
            raise ValueError(f"model {name!r} cannot be built with {dict(settings)}: {error}") from error
