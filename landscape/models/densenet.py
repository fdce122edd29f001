"""DenseNet-BC: each layer sees the outputs of all layers before it in its block.

A layer is batch norm, ReLU, 1 x 1 to four times the growth, batch norm, ReLU, 3 x 3 to the growth; between blocks a
convolution of one pixel halves the channels and a mean over 2 x 2 the image.
Source: Huang et al. 2017, table 1, arXiv:1608.06993.
"""

import torch
from torch import Tensor, nn

from landscape.checks import integer_in, one_of
from landscape.models.initialise import he_normal
from landscape.models.stems import STEMS, stem

BLOCKS = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}
BOTTLENECK = 4


def densenet(
    depth: int = 121, form: str = "imagenet", growth: int = 32, in_channels: int = 3, classes: int = 1000
) -> nn.Module:
    """DenseNet-depth.

    Args:
        depth: 121, 169 or 201.
        form: "imagenet", or "cifar" (first convolution 3 x 3 without stride, no maximum).
        growth: channels that a layer adds; 32 is the paper's. The first convolution has twice as many.
        in_channels: of the images.
        classes: length of the output.
    Raises:
        ValueError: if depth or form is unknown or a size is below 1.
    """
    one_of("depth", depth, BLOCKS)
    one_of("form", form, STEMS)
    for name, size in {"growth": growth, "in_channels": in_channels, "classes": classes}.items():
        integer_in(name, size, 1)
    return DenseNet(BLOCKS[depth], form, growth, in_channels, classes)


class DenseNet(nn.Module):
    """First layers, four dense blocks with transitions, batch norm, ReLU, mean over pixels, linear layer."""

    def __init__(self, blocks: tuple[int, ...], form: str, growth: int, in_channels: int, classes: int) -> None:
        super().__init__()
        channels = 2 * growth
        layers: list[nn.Module] = [stem(form, in_channels, channels)]
        for index, count in enumerate(blocks):
            for _ in range(count):
                layers.append(DenseLayer(channels, growth))
                channels += growth
            if index + 1 < len(blocks):
                layers.append(nn.Sequential(*_active(channels, channels // 2, 1), nn.AvgPool2d(2)))
                channels //= 2
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU())
        self.head = nn.Linear(channels, classes)
        he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.features(x)
        return self.head(features.mean((2, 3)))  # (batch, classes)


class DenseLayer(nn.Module):
    """x and, behind it, `growth` channels made of it."""

    def __init__(self, before: int, growth: int) -> None:
        super().__init__()
        inner = BOTTLENECK * growth
        self.branch = nn.Sequential(*_active(before, inner, 1), *_active(inner, growth, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.branch(x)], 1)


def _active(before: int, after: int, size: int) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, size, padding=size // 2, bias=False)
    return [nn.BatchNorm2d(before), nn.ReLU(), convolution]
