"""MLP-Mixer: blocks of a perceptron over the tokens and one over the channels, each on normalised tokens and added.

Their hidden layers have dim / 2 and 4 dim units, as in all of the paper's networks.
Source: Tolstikhin et al. 2021, table 1, arXiv:2105.01601.
"""

from torch import Tensor, nn

from landscape.checks import require
from landscape.models.initialise import lecun_normal
from landscape.models.patches import Patches, check_sizes, perceptron

EPSILON = 1e-6  # of the normalisations, as the paper's code has it


def mixer(
    dim: int = 32, depth: int = 4, patch: int = 2, image_size: int = 8, in_channels: int = 1, classes: int = 10
) -> nn.Module:
    """MLP-Mixer with a linear head on the tokens' mean.

    The paper's (dim, depth) are S (512, 8) and B (768, 12); /16 means patch=16, with image_size=224 and in_channels=3.

    Args:
        dim: length of a token, even.
        depth: blocks.
        patch: side of a patch; it must divide image_size.
        image_size: side of the images.
        in_channels: of the images.
        classes: length of the output.
    Raises:
        ValueError: if a size is below 1 or does not divide.
    """
    check_sizes(image_size, patch, dim=dim, depth=depth, in_channels=in_channels, classes=classes)
    require(dim % 2 == 0, f"dim must be even, got {dim}")
    return Mixer(Patches(image_size, patch, in_channels, dim), dim, depth, classes)


class Mixer(nn.Module):
    """Tokens, blocks, normalisation, mean over the tokens, linear layer."""

    def __init__(self, patches: Patches, dim: int, depth: int, classes: int) -> None:
        super().__init__()
        self.patches = patches
        self.blocks = nn.Sequential(*(Block(patches.count, dim) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=EPSILON)
        self.head = nn.Linear(dim, classes)
        lecun_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.norm(self.blocks(self.patches(x)))
        return self.head(tokens.mean(1))  # (batch, classes)


class Block(nn.Module):
    """x + perceptron over tokens(norm(x)), then x + perceptron over channels(norm(x))."""

    def __init__(self, tokens: int, dim: int) -> None:
        super().__init__()
        self.token_norm = nn.LayerNorm(dim, eps=EPSILON)
        self.tokens = perceptron(tokens, dim // 2)
        self.channels = nn.Sequential(nn.LayerNorm(dim, eps=EPSILON), perceptron(dim, 4 * dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.token_norm(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(x)
