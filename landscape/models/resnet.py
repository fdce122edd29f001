"""Residual network for small images (not ResNet-50 and its kin), with and without normalisation.

Three stages of (depth − 2)/6 blocks with width, 2 width and 4 width channels; the image halves between stages; the mean
over pixels feeds one linear layer. The shortcuts have no parameters ("option A"): every other pixel, missing channels
are zero. Source: He et al. 2016, section 4.2, arXiv:1512.03385.

All convolutions start as He et al. 2015 have it. Without normalisation the variance would then double in every block.
So the last convolution of each of the B branches is scaled by B^(-1/2): a block adds about 1/B of its input's variance,
all of them together about a factor e, at any depth. Source: Hanin & Rolnick 2018, arXiv:1803.01719.
"""

from collections.abc import Callable
from functools import partial
from math import gcd

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.checks import integer_in, one_of, require
from landscape.models.deep_resnet import BLOCKS
from landscape.models.initialise import he_normal

Norm = Callable[[int], nn.Module]

NORMS: dict[str, Norm] = {
    "none": lambda _channels: nn.Identity(),
    "batch": nn.BatchNorm2d,
    "group": lambda channels: nn.GroupNorm(gcd(8, channels), channels),
}


def resnet(depth: int = 8, width: int = 16, norm: str = "none", in_channels: int = 1, classes: int = 10) -> nn.Module:
    """ResNet of He et al. for small images.

    Args:
        depth: 6 n + 2 layers, n blocks a stage; depth 20, width 16 and 3 channels is the paper's for CIFAR-10.
        width: channels of the first stage.
        norm: "none" (scaled branches, convolutions with bias), "batch", or "group" (8 groups where they divide).
        in_channels: of the images.
        classes: length of the output.
    Raises:
        ValueError: if depth is not 6 n + 2, norm is unknown, or a size is below 1.
    """
    integer_in("depth", depth, 8)
    other = f"; the network for ImageNet is 'resnet{depth}'" if depth in BLOCKS else ""
    require(depth % 6 == 2, f"depth must be 6 n + 2 (8, 14, 20, ...), got {depth}{other}")
    for name, size in {"width": width, "in_channels": in_channels, "classes": classes}.items():
        integer_in(name, size, 1)
    one_of("norm", norm, NORMS)
    return ResNet((depth - 2) // 6, width, norm, in_channels, classes)


class ResNet(nn.Module):
    """Convolution, three stages of residual blocks, mean over pixels, linear layer."""

    def __init__(self, blocks: int, width: int, norm: str, in_channels: int, classes: int) -> None:
        super().__init__()
        conv = partial(nn.Conv2d, kernel_size=3, padding=1, bias=norm == "none")
        sizes = [width * 2**stage for stage in range(3) for _ in range(blocks)]
        self.stem = nn.Sequential(conv(in_channels, width), NORMS[norm](width), nn.ReLU())
        self.blocks = nn.Sequential(
            *(Block(before, after, conv, NORMS[norm]) for before, after in zip([width, *sizes], sizes, strict=False))
        )
        self.head = nn.Linear(4 * width, classes)
        he_normal(self)
        if norm == "none":
            _scale_branches(self, len(sizes) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.blocks(self.stem(x))
        return self.head(features.mean((2, 3)))  # (batch, classes)


class Block(nn.Module):
    """relu(shortcut(x) + branch(x)); where the channels grow, the image halves."""

    def __init__(self, before: int, after: int, conv: Callable[..., nn.Module], norm: Norm) -> None:
        super().__init__()
        self.stride, self.added = after // before, after - before
        self.branch = nn.Sequential(
            conv(before, after, stride=self.stride), norm(after), nn.ReLU(), conv(after, after), norm(after)
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        if self.added:  # else both would copy x
            shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))
        return F.relu(shortcut + self.branch(x))


@torch.no_grad()
def _scale_branches(network: ResNet, scale: float) -> None:
    for block in network.modules():
        if isinstance(block, Block):
            for p in block.branch[3].parameters():
                p.mul_(scale)
