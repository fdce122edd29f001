"""What the networks over patches share: an image as a sequence of tokens, and the perceptron on each of them."""

from torch import Tensor, nn

from landscape.checks import integer_in, require


class Patches(nn.Module):
    """An image cut into squares, each mapped linearly to one token: (batch, tokens, dim)."""

    def __init__(self, image_size: int, patch: int, in_channels: int, dim: int) -> None:
        super().__init__()
        self.count = (image_size // patch) ** 2
        self.projection = nn.Conv2d(in_channels, dim, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(x).flatten(2).transpose(1, 2)


def perceptron(features: int, hidden: int) -> nn.Sequential:
    """Linear layer, GELU, linear layer, on the last axis."""
    return nn.Sequential(nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, features))


def check_sizes(image_size: int, patch: int, **sizes: int) -> None:
    """Raise ValueError unless patches tile the image and every size is at least 1."""
    for name, size in {"image_size": image_size, "patch": patch, **sizes}.items():
        integer_in(name, size, 1)
    require(image_size % patch == 0, f"patch must divide image_size {image_size}, got {patch}")
