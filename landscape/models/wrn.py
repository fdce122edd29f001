"""Wide residual network, WRN-d-k: three stages of (d − 4)/6 blocks with 16 k, 32 k and 64 k channels.

Normalisation and ReLU come before each convolution. Where the channels grow, the shortcut is a convolution of one pixel
that sees the normalised input; else it is the identity. Source: Zagoruyko & Komodakis 2016, arXiv:1605.07146.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from landscape.checks import integer_in, require
from landscape.models.initialise import he_normal


def wrn(depth: int = 10, widen: int = 1, in_channels: int = 1, classes: int = 10, dropout: float = 0.0) -> nn.Module:
    """WRN-depth-widen with batch normalisation.

    Args:
        depth: 6 n + 4 layers, n blocks a stage; the paper's for CIFAR is depth 28, widen 10 and 3 channels.
        widen: k, a multiple of 16 channels in the first stage.
        in_channels: of the images.
        classes: length of the output.
        dropout: between a block's convolutions, in [0, 1); 0.3 for CIFAR in the paper where it is used.
    Raises:
        ValueError: if depth is not 6 n + 4, or a size is out of range.
    """
    integer_in("depth", depth, 10)
    require(depth % 6 == 4, f"depth must be 6 n + 4 (10, 16, 22, 28, ...), got {depth}")
    for name, size in {"widen": widen, "in_channels": in_channels, "classes": classes}.items():
        integer_in(name, size, 1)
    require(0 <= dropout < 1, f"dropout must be in [0, 1), got {dropout!r}")
    return WideResNet((depth - 4) // 6, widen, in_channels, classes, dropout)


class WideResNet(nn.Module):
    """Convolution, three stages of blocks, normalisation, ReLU, mean over pixels, linear layer."""

    def __init__(self, blocks: int, widen: int, in_channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        sizes = [16 * widen * 2**stage for stage in range(3) for _ in range(blocks)]
        strides = [1 + (index in (blocks, 2 * blocks)) for index in range(3 * blocks)]
        self.stem = _convolution(in_channels, 16)
        self.blocks = nn.Sequential(
            *(
                Block(before, after, stride, dropout)
                for before, after, stride in zip([16, *sizes], sizes, strides, strict=False)
            )
        )
        self.norm = nn.BatchNorm2d(64 * widen)
        self.head = nn.Linear(64 * widen, classes)
        he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        features = F.relu(self.norm(self.blocks(self.stem(x))))
        return self.head(features.mean((2, 3)))  # (batch, classes)


class Block(nn.Module):
    """shortcut + branch(relu(norm(x))); where the channels change, the shortcut sees relu(norm(x)) too."""

    def __init__(self, before: int, after: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(before)
        self.branch = nn.Sequential(
            _convolution(before, after, stride),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Dropout(dropout),
            _convolution(after, after),
        )
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False) if before != after else None

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm(x))
        shortcut = x if self.shortcut is None else self.shortcut(active)
        return shortcut + self.branch(active)


def _convolution(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
