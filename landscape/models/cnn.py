"""A plain convolutional network of six layers, without normalisation: small enough for exact Hessians along a training.

The Eigen-SAM paper follows one on CIFAR-10 and says no more than its six layers; here they are four convolutions of
3 x 3 in two stages, a maximum over 2 x 2 after each, and two linear layers. Source: Luo et al. 2024, arXiv:2501.12666.
"""

from torch import nn

from landscape.checks import integer_in, require
from landscape.models.initialise import he_normal


def cnn(width: int = 32, hidden: int = 128, image_size: int = 32, in_channels: int = 3, classes: int = 10) -> nn.Module:
    """Four convolutions and two linear layers, ReLU between them.

    Args:
        width: channels of the first two convolutions; the other two have twice as many.
        hidden: units between the linear layers.
        image_size: side of the images, a multiple of 4.
        in_channels: of the images.
        classes: length of the output.
    Raises:
        ValueError: if a size is below 1 or image_size is no multiple of 4.
    """
    sizes = {"width": width, "hidden": hidden, "image_size": image_size, "in_channels": in_channels}
    for name, size in {**sizes, "classes": classes}.items():
        integer_in(name, size, 1)
    require(image_size % 4 == 0, f"image_size must be a multiple of 4, got {image_size}")
    layers: list[nn.Module] = []
    for before, after in ((in_channels, width), (width, 2 * width)):
        for channels in (before, after):
            layers += [nn.Conv2d(channels, after, 3, padding=1), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    inputs = 2 * width * (image_size // 4) ** 2
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))
    he_normal(network)
    return network
