"""The first layers of networks that exist for ImageNet and for small images."""

from torch import nn

STEMS = ("imagenet", "cifar")


def stem(form: str, in_channels: int, width: int) -> nn.Sequential:
    """Convolution, batch norm and ReLU.

    "imagenet": 7 x 7 with stride 2, then a maximum over 3 x 3 with stride 2, so that the image shrinks to a quarter;
    "cifar": 3 x 3, the image keeps its size.
    """
    size, stride = (7, 2) if form == "imagenet" else (3, 1)
    convolution = nn.Conv2d(in_channels, width, size, stride, size // 2, bias=False)
    pool = [nn.MaxPool2d(3, 2, 1)] if form == "imagenet" else []
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU(), *pool)
