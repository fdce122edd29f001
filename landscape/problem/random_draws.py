"""Random numbers inside a loss, the same for a batch at every evaluation and different from batch to batch.

A variational autoencoder, a diffusion model with random times, dropout that the user keeps on: with the draws of every
batch fixed by one seed, the loss is a function of the weights alone, and its gradient, products and slices are those of
one and the same function. Reading the data has a stream of its own, so that augmentation and shuffling do not depend
on how often a batch was evaluated.
"""

import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from landscape.side_effects import gpu_draws, random_state

MIX = 0x9E3779B97F4A7C15  # the golden ratio in 64 bits: neighbouring seeds and batches get unlike states
DATA = -1  # in place of a batch's index: the stream that the data is read with


def seed_everything(draws: int, index: int) -> None:
    """Put the global generators of Python, NumPy and torch into the state that belongs to a batch."""
    seed = (draws * MIX + index * (MIX >> 7) + 1) % 2**63
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    if gpu_draws():
        torch.cuda.manual_seed_all(seed)


def read_apart(data: Iterable[Any], draws: int) -> Iterator[Any]:
    """The items of `data`, read with random numbers of their own, whatever is drawn between one item and the next."""
    if isinstance(data, list | tuple):  # nothing is drawn when these are read
        yield from data
        return
    seed_everything(draws, DATA)
    items = iter(data)
    resume = random_state()
    while True:
        resume()
        try:
            item = next(items)
        except StopIteration:
            return
        resume = random_state()
        yield item
