"""A small causal language model: a transformer decoder that at each position scores what comes next.

The blocks are those of the vision transformer, attention looks back only. Source: Radford et al. 2019 ("GPT-2").
"""

import torch
from torch import Tensor, nn

from landscape.checks import integer_in, require
from landscape.models.vit import EPSILON, Block


def char_lm(dim: int = 32, depth: int = 2, heads: int = 4, length: int = 64, classes: int = 32) -> nn.Module:
    """Tokens (batch, positions) to scores (batch, classes, positions), as torch's cross entropy has them.

    Args:
        dim: length of a token's vector.
        depth: blocks.
        heads: of attention; they must divide dim.
        length: positions, the most there may be.
        classes: different tokens, those of the data.
    Raises:
        ValueError: if a size is below 1 or heads do not divide dim.
    """
    sizes = {"dim": dim, "depth": depth, "heads": heads, "length": length, "classes": classes}
    for name, size in sizes.items():
        integer_in(name, size, 1)
    require(dim % heads == 0, f"heads must divide dim {dim}, got {heads}")
    return CharacterModel(dim, depth, heads, length, classes)


class CharacterModel(nn.Module):
    """Vectors of tokens plus positions, blocks, normalisation, linear layer."""

    def __init__(self, dim: int, depth: int, heads: int, length: int, classes: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(classes, dim)
        self.positions = nn.Parameter(torch.empty(length, dim))
        self.blocks = nn.Sequential(*(Block(dim, heads, causal=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim, eps=EPSILON)
        self.head = nn.Linear(dim, classes)
        for weights in (self.tokens.weight, self.positions, self.head.weight):
            nn.init.normal_(weights, std=0.02)  # as GPT-2 has it
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.tokens(x) + self.positions[: x.shape[1]]  # (batch, positions, dim)
        return self.head(self.norm(self.blocks(tokens))).transpose(1, 2)
