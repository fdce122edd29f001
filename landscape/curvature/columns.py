"""A linear map of vectors, applied to the columns of a block."""

from collections.abc import Callable

import torch

from landscape.vectors import Block, Vector


def in_columns(one: Callable[[Vector], Vector], block: Block, chunk: int) -> Block:
    """one(v) for every column v, `chunk` of them at once by vmap; (P, K) to (P, K)."""
    if chunk > 1:
        return torch.vmap(one, in_dims=1, out_dims=1, chunk_size=chunk)(block)
    return torch.stack([one(v) for v in block.T], dim=1)
