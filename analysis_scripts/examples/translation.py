"""A toy of translation for `landscape train`: other words in the opposite order, by a Transformer.

    landscape train RUN --config analysis_scripts/configs/translation_adahessian.yaml

A sentence is `length` words of a vocabulary of `words`; its translation has each word's counterpart, last word first.
An input is both, (2 length,): the source and, as the decoder sees it, the begin token and the translation but for its
last word. Targets are the translation, (length,). Source: Vaswani et al. 2017, arXiv:1706.03762; normalisation before
each part: Wang et al. 2019, arXiv:1906.01787.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

Set = tuple[Tensor, Tensor]


def sentences(words: int = 8, length: int = 5, count: int = 2000) -> tuple[Set, Set]:
    """(train, test), nine tenths and one tenth of `count` random sentences."""
    draw = torch.Generator().manual_seed(0)
    source = torch.randint(words, (count, length), generator=draw)
    targets = torch.randperm(words, generator=draw)[source].flip(1)
    begin = torch.full((count, 1), words)
    inputs = torch.cat([source, begin, targets[:, :-1]], dim=1)
    train = 9 * count // 10
    return (inputs[:train], targets[:train]), (inputs[train:], targets[train:])


def transformer(words: int = 8, length: int = 5, dim: int = 32, depth: int = 2, heads: int = 4) -> nn.Module:
    """Encoder and decoder of `depth` layers; inputs (N, 2 length) to scores (N, words, length)."""
    return Translator(words, length, dim, depth, heads)


class Translator(nn.Module):
    """Words of both languages plus positions, encoder, decoder that looks back only, linear layer."""

    def __init__(self, words: int, length: int, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(words, dim), nn.Embedding(words + 1, dim)
        self.positions = nn.Parameter(torch.randn(length, dim))
        shape: dict[str, Any] = {"dropout": 0.0, "batch_first": True, "norm_first": True}
        encoder = nn.TransformerEncoderLayer(dim, heads, 4 * dim, **shape)
        decoder = nn.TransformerDecoderLayer(dim, heads, 4 * dim, **shape)
        self.encoder = nn.TransformerEncoder(encoder, depth, nn.LayerNorm(dim), enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(decoder, depth, nn.LayerNorm(dim))
        for weights in (*self.encoder.parameters(), *self.decoder.parameters()):
            if weights.ndim > 1:
                nn.init.xavier_uniform_(weights)  # else all layers are copies of one
        self.head = nn.Linear(dim, words)
        self.length = length

    def forward(self, x: Tensor) -> Tensor:
        source, seen = x.split(self.length, dim=1)
        later = torch.ones(self.length, self.length, dtype=torch.bool, device=x.device).triu(1)
        with sdpa_kernel(SDPBackend.MATH):  # AdaHessian differentiates twice
            memory = self.encoder(self.source(source) + self.positions)
            mixed = self.decoder(self.target(seen) + self.positions, memory, tgt_mask=later)
        return self.head(mixed).transpose(1, 2)
