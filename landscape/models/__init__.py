"""The networks that the bundled trainer trains."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from landscape.checks import first_line, one_of, require
from landscape.models.by_name import built, network_maker
from landscape.models.char_lm import char_lm
from landscape.models.cnn import cnn
from landscape.models.deep_resnet import BLOCKS, deep_resnet
from landscape.models.densenet import densenet
from landscape.models.mixer import mixer
from landscape.models.mlp import mlp
from landscape.models.pyramidnet import pyramidnet
from landscape.models.resnet import resnet
from landscape.models.shake_shake import shake_shake
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
    "cifar_resnet": resnet,
    **{f"resnet{depth}": partial(deep_resnet, depth) for depth in BLOCKS},
    "resnext50": partial(deep_resnet, 50, cardinality=32, group_width=4),
    "densenet121": partial(densenet, 121),
    "pyramidnet": pyramidnet,
    "shake_shake": shake_shake,
    "cnn": cnn,
    "deit_s": partial(vit, dim=384, depth=12, heads=6, patch=16, image_size=224, in_channels=3, classes=1000),
    "char_lm": char_lm,
}

__all__ = [
    "MODELS",
    "build",
    "char_lm",
    "check_meant",
    "cnn",
    "deep_resnet",
    "densenet",
    "mixer",
    "mlp",
    "model_maker",
    "pyramidnet",
    "resnet",
    "shake_shake",
    "vgg",
    "vit",
    "wrn",
]


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


def check_meant(name: str, settings: Mapping[str, Any]) -> None:
    """Raise ValueError for 'resnet' with the depth of another network: 50 layers of basic blocks are not ResNet-50."""
    depth = settings.get("depth")
    require(
        name != "resnet" or depth not in BLOCKS,
        f"model 'resnet' is the network of basic blocks for CIFAR (depth 6 n + 2), got depth {depth}; take "
        f"'resnet{depth}' for ResNet-{depth}, or 'cifar_resnet' if its {depth} layers are meant",
    )


def model_maker(name: str) -> Callable[..., nn.Module]:
    """What makes the network. Raises ValueError if the name is unknown."""
    if ":" in name:
        return network_maker(name)
    one_of("model", name, MODELS)
    return MODELS[name]
