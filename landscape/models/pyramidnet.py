"""PyramidNet for small images: the channels grow by α/B in each of the B blocks, whose branches ShakeDrop may shake.

A block's branch is batch norm, 1 x 1, batch norm, ReLU, 3 x 3, batch norm, ReLU, 1 x 1 to four times the width, batch
norm; its shortcut has no parameters: a mean over 2 x 2 where the image halves, missing channels are zero.
Source: Han et al. 2017, arXiv:1610.02915; ShakeDrop: Yamada et al. 2019, arXiv:1802.02375.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from landscape.checks import integer_in, require
from landscape.models.initialise import he_normal
from landscape.models.shaken import ShakeDrop

EXPANSION = 4


def pyramidnet(
    depth: int = 272, alpha: int = 200, shake_drop: float = 0.5, in_channels: int = 3, classes: int = 10
) -> nn.Module:
    """PyramidNet-depth of bottlenecks.

    Args:
        depth: 9 n + 2 layers, n blocks a stage; the SAM paper's has depth 272 and alpha 200.
        alpha: channels that the blocks add to the first convolution's 16; four times as many at their ends.
        shake_drop: 1 − the probability that the last block's branch is kept, the others' falling linearly to 0 at
            the first; in [0, 1), 0 for none.
        in_channels: of the images.
        classes: length of the output.
    Raises:
        ValueError: if depth is not 9 n + 2 or a setting is out of range.
    """
    integer_in("depth", depth, 11)
    require(depth % 9 == 2, f"depth must be 9 n + 2 (11, 20, ..., 272), got {depth}")
    for name, size in {"alpha": alpha, "in_channels": in_channels, "classes": classes}.items():
        integer_in(name, size, 1)
    require(0 <= shake_drop < 1, f"shake_drop must be in [0, 1), got {shake_drop!r}")
    return PyramidNet((depth - 2) // 9, alpha, shake_drop, in_channels, classes)


class PyramidNet(nn.Module):
    """Convolution and batch norm, three stages of blocks, batch norm, ReLU, mean over pixels, linear layer."""

    def __init__(self, blocks: int, alpha: int, shake_drop: float, in_channels: int, classes: int) -> None:
        super().__init__()
        count = 3 * blocks
        made: list[nn.Module] = []
        before = 16
        for index in range(count):
            width = int(16 + alpha * (index + 1) / count)
            drop = ShakeDrop(1 - shake_drop * (index + 1) / count) if shake_drop else nn.Identity()
            made.append(Block(before, width, 2 if index in (blocks, 2 * blocks) else 1, drop))
            before = EXPANSION * width
        self.stem = nn.Sequential(nn.Conv2d(in_channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16))
        self.blocks = nn.Sequential(*made)
        self.norm = nn.BatchNorm2d(before)
        self.head = nn.Linear(before, classes)
        he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        features = F.relu(self.norm(self.blocks(self.stem(x))))
        return self.head(features.mean((2, 3)))  # (batch, classes)


class Block(nn.Module):
    """shortcut(x) + drop(branch(x))."""

    def __init__(self, before: int, width: int, stride: int, drop: nn.Module) -> None:
        super().__init__()
        after = EXPANSION * width
        self.stride, self.added = stride, after - before
        self.branch = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.Conv2d(before, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, after, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.avg_pool2d(x, 2, ceil_mode=True) if self.stride > 1 else x
        return F.pad(shortcut, (0, 0, 0, 0, 0, self.added)) + self.drop(self.branch(x))
