"""Vision transformer: patches and a class token, learned positions, blocks of attention and perceptron, each on
normalised tokens and added to them. Source: Dosovitskiy et al. 2021, arXiv:2010.11929; Ti and S: Touvron et al. 2021,
arXiv:2012.12877.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landscape.checks import require
from landscape.models.initialise import lecun_normal
from landscape.models.patches import Patches, check_sizes, perceptron

EPSILON = 1e-6  # of the normalisations, as the paper's code has it


def vit(
    dim: int = 32,
    depth: int = 4,
    heads: int = 4,
    patch: int = 2,
    image_size: int = 8,
    in_channels: int = 1,
    classes: int = 10,
) -> nn.Module:
    """ViT with a class token and a linear head.

    The papers' (dim, depth, heads) are Ti (192, 12, 3), S (384, 12, 6) and B (768, 12, 12); /16 means patch=16, with
    image_size=224 and in_channels=3. For CIFAR patch=4 and image_size=32 are usual.

    Args:
        dim: length of a token.
        depth: blocks.
        heads: of attention; they must divide dim.
        patch: side of a patch; it must divide image_size.
        image_size: side of the images.
        in_channels: of the images.
        classes: length of the output.
    Raises:
        ValueError: if a size is below 1 or does not divide.
    """
    check_sizes(image_size, patch, dim=dim, depth=depth, heads=heads, in_channels=in_channels, classes=classes)
    require(dim % heads == 0, f"heads must divide dim {dim}, got {heads}")
    return VisionTransformer(Patches(image_size, patch, in_channels, dim), dim, depth, heads, classes)


class VisionTransformer(nn.Module):
    """Tokens and class token plus positions, blocks, normalisation; the head sees the class token."""

    def __init__(self, patches: Patches, dim: int, depth: int, heads: int, classes: int) -> None:
        super().__init__()
        self.patches = patches
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(torch.empty(1, patches.count + 1, dim))
        self.blocks = nn.Sequential(*(Block(dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=EPSILON)
        self.head = nn.Linear(dim, classes)
        lecun_normal(self)
        nn.init.normal_(self.positions, std=0.02)  # the paper's code

    def forward(self, x: Tensor) -> Tensor:
        class_token = self.class_token.expand(len(x), -1, -1)
        tokens = torch.cat([class_token, self.patches(x)], dim=1) + self.positions  # (batch, 1 + tokens, dim)
        return self.head(self.norm(self.blocks(tokens))[:, 0])  # (batch, classes)


class Block(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x))."""

    def __init__(self, dim: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(dim, eps=EPSILON), Attention(dim, heads, causal))
        self.perceptron = nn.Sequential(nn.LayerNorm(dim, eps=EPSILON), perceptron(dim, 4 * dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.perceptron(x)


class Attention(nn.Module):
    """softmax(q kᵀ / √(dim / heads)) v in each head, and a linear map of all heads' outputs.

    Causal: a token looks at itself and those before it.
    """

    def __init__(self, dim: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.output = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.query_key_value(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(
            qkv[0], qkv[1], qkv[2], is_causal=self.causal
        )  # (batch, heads, tokens, dim / heads)
        return self.output(mixed.transpose(1, 2).flatten(2))
