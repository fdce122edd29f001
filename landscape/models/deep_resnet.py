"""ResNet-18, 34, 50, 101 and 152 and ResNeXt, in the form for ImageNet and in the one that is usual for CIFAR.

Four stages; the image halves between them. Up to 34 layers a block has two convolutions of 3 x 3, above it is a
bottleneck: 1 x 1, 3 x 3 (with the stride, in as many groups as the cardinality says), 1 x 1 to four times the width.
Where the shape changes, the shortcut is a convolution of one pixel with batch norm.
Source: He et al. 2016, table 1, arXiv:1512.03385; Xie et al. 2017, arXiv:1611.05431; the stride's place: Goyal et al.
2017, arXiv:1706.02677.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from landscape.checks import integer_in, one_of, require
from landscape.models.initialise import he_normal
from landscape.models.stems import STEMS, stem

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
EXPANSION = 4  # of a bottleneck's last convolution


def deep_resnet(
    depth: int = 50,
    form: str = "imagenet",
    width: int = 64,
    cardinality: int = 1,
    group_width: int = 64,
    in_channels: int = 3,
    classes: int = 1000,
) -> nn.Module:
    """ResNet-depth with batch normalisation; ResNeXt-50 32x4d is depth 50, cardinality 32, group_width 4.

    Args:
        depth: 18, 34, 50, 101 or 152.
        form: "imagenet", or "cifar" (first convolution 3 x 3 without stride, no maximum).
        width: channels of the first stage; 64 is the paper's.
        cardinality: groups of a bottleneck's inner convolution.
        group_width: channels of one group in the first stage, where width is 64.
        in_channels: of the images.
        classes: length of the output.
    Raises:
        ValueError: if depth or form is unknown, a size is below 1, or groups are asked of blocks that have none.
    """
    one_of("depth", depth, BLOCKS)
    one_of("form", form, STEMS)
    sizes = {"width": width, "cardinality": cardinality, "group_width": group_width}
    for name, size in {**sizes, "in_channels": in_channels, "classes": classes}.items():
        integer_in(name, size, 1)
    grouped = (cardinality, group_width) != (1, 64)
    require(depth >= 50 or not grouped, f"cardinality and group_width need depth 50 or more, got {depth}")
    require(width * group_width >= 64, f"width times group_width must be at least 64, got {width} and {group_width}")
    return DeepResNet(depth, form, width, (cardinality, group_width), in_channels, classes)


class DeepResNet(nn.Module):
    """First layers, four stages of blocks, mean over pixels, linear layer."""

    def __init__(
        self, depth: int, form: str, width: int, groups: tuple[int, int], in_channels: int, classes: int
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        before = width
        for stage, count in enumerate(BLOCKS[depth]):
            after = width * 2**stage
            for index in range(count):
                stride = 2 if stage and not index else 1
                branch = _basic(before, after, stride) if depth < 50 else _bottleneck(before, after, stride, groups)
                after_block = after * (1 if depth < 50 else EXPANSION)
                blocks.append(Block(branch, before, after_block, stride))
                before = after_block
        self.stem = stem(form, in_channels, width)
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(before, classes)
        he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.blocks(self.stem(x))
        return self.head(features.mean((2, 3)))  # (batch, classes)


class Block(nn.Module):
    """relu(shortcut(x) + branch(x))."""

    def __init__(self, branch: nn.Module, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.branch = branch
        changes = before != after or stride > 1
        self.shortcut = nn.Sequential(*_convolution(before, after, 1, stride)) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.branch(x))


def _basic(before: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(*_convolution(before, width, 3, stride), nn.ReLU(), *_convolution(width, width, 3))


def _bottleneck(before: int, width: int, stride: int, groups: tuple[int, int]) -> nn.Sequential:
    cardinality, group_width = groups
    inner = width * group_width // 64 * cardinality
    return nn.Sequential(
        *_convolution(before, inner, 1),
        nn.ReLU(),
        *_convolution(inner, inner, 3, stride, cardinality),
        nn.ReLU(),
        *_convolution(inner, EXPANSION * width, 1),
    )


def _convolution(before: int, after: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, size, stride, size // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(after)]
