"""Shake-Shake network for small images: residual blocks of two branches, mixed at random.

A branch is ReLU, 3 x 3, batch norm, ReLU, 3 x 3, batch norm. Where the channels change, the shortcut is half of them
from the pixels at even places and half from those one further along both axes, each by a convolution of one pixel,
then batch norm. Source: Gastaldi 2017, arXiv:1705.07485.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.checks import integer_in, require
from landscape.models.initialise import he_normal
from landscape.models.shaken import ShakeShake


def shake_shake(depth: int = 26, width: int = 96, in_channels: int = 3, classes: int = 10) -> nn.Module:
    """Shake-Shake depth 2 x width d.

    Args:
        depth: 6 n + 2 layers, n blocks a stage; 26 is the paper's.
        width: channels of the first stage, even; 32, 64, 96 or 112 in the paper.
        in_channels: of the images.
        classes: length of the output.
    Raises:
        ValueError: if depth is not 6 n + 2, width is odd or a size is below 1.
    """
    integer_in("depth", depth, 8)
    require(depth % 6 == 2, f"depth must be 6 n + 2 (8, 14, 20, 26, ...), got {depth}")
    for name, size in {"width": width, "in_channels": in_channels, "classes": classes}.items():
        integer_in(name, size, 1)
    require(width % 2 == 0, f"width must be even, got {width}")
    return ShakeShakeNet((depth - 2) // 6, width, in_channels, classes)


class ShakeShakeNet(nn.Module):
    """Convolution and batch norm, three stages of blocks, ReLU, mean over pixels, linear layer."""

    def __init__(self, blocks: int, width: int, in_channels: int, classes: int) -> None:
        super().__init__()
        sizes = [width * 2**stage for stage in range(3) for _ in range(blocks)]
        strides = [1 + (index in (blocks, 2 * blocks)) for index in range(3 * blocks)]
        self.stem = nn.Sequential(nn.Conv2d(in_channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
        self.blocks = nn.Sequential(*map(Block, [16, *sizes[:-1]], sizes, strides))
        self.head = nn.Linear(4 * width, classes)
        he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        features = F.relu(self.blocks(self.stem(x)))
        return self.head(features.mean((2, 3)))  # (batch, classes)


class Block(nn.Module):
    """shortcut(x) + a random mean of two branches."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_branch(before, after, stride) for _ in range(2))
        self.shake = ShakeShake()
        self.shortcut = Shortcut(before, after, stride) if before != after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        first, second = (branch(x) for branch in self.branches)
        return self.shortcut(x) + self.shake(first, second)


class Shortcut(nn.Module):
    """ReLU, two convolutions of one pixel side by side, batch norm."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.even = nn.Conv2d(before, after // 2, 1, bias=False)
        self.odd = nn.Conv2d(before, after // 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        x, stride = F.relu(x), self.stride
        further = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        halves = self.even(x[:, :, ::stride, ::stride]), self.odd(further[:, :, ::stride, ::stride])
        return self.norm(torch.cat(halves, 1))


def _branch(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(before, after, 3, stride, 1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
        nn.Conv2d(after, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
    )
