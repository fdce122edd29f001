"""VGG with batch normalisation, for small images: five stages of convolutions, a maximum over 2 x 2 pixels after each.

The convolutions are those of Simonyan & Zisserman 2015, table 1 (A, B, D, E), arXiv:1409.1556, without the biases that
normalisation would undo; one linear layer takes the place of the three of 4,096 units. Source of the variant for CIFAR:
Liu et al. 2017, arXiv:1708.06519 (VGG-19 with 20.04 million parameters).
"""

from torch import Tensor, nn

from landscape.checks import integer_in, one_of
from landscape.models.initialise import he_normal

STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # convolutions
GROWTH = (1, 2, 4, 8, 8)


def vgg(depth: int = 11, width: int = 64, in_channels: int = 3, classes: int = 10) -> nn.Module:
    """VGG-depth with batch normalisation.

    Args:
        depth: 11, 13, 16 or 19, layers of the original.
        width: channels of the first stage; 64 is the paper's.
        in_channels: of the images, which must have at least 32 x 32 pixels.
        classes: length of the output.
    Raises:
        ValueError: if depth is unknown or a size is below 1.
    """
    one_of("depth", depth, STAGES)
    for name, size in {"width": width, "in_channels": in_channels, "classes": classes}.items():
        integer_in(name, size, 1)
    return VGG(STAGES[depth], width, in_channels, classes)


class VGG(nn.Module):
    """Five stages, mean over the pixels that are left (one of 32 x 32), linear layer."""

    def __init__(self, stages: tuple[int, ...], width: int, in_channels: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = in_channels
        for count, growth in zip(stages, GROWTH, strict=True):
            for _ in range(count):
                after = width * growth
                layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
                before = after
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(before, classes)
        he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.features(x)
        return self.head(features.mean((2, 3)))  # (batch, classes)
