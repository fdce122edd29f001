"""Images that are decoded when they are asked for, standardised by channel."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from landscape.checks import require
from landscape.data.lazy import Lazy, Part, lazy
from landscape.data.workers import Sample

MEASURED = 2000  # images that stand for all: a mean has a standard error of at most 1/√2000 = 2 % of the deviation
Unread = tuple[Callable[[Any], np.ndarray], Sequence[Any], np.ndarray]  # reader, what it reads (N), labels (N,)


@dataclass(frozen=True, eq=False)
class Decoded(Dataset[tuple[Tensor, int]]):
    """uint8 images of one shape as float32, (x - mean) / std."""

    unread: Unread
    shape: tuple[int, ...]
    mean: np.ndarray  # (channels, 1, 1)
    std: np.ndarray

    def __len__(self) -> int:
        return len(self.unread[2])

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        read, sources, labels = self.unread
        pixels = read(sources[place])
        require_shape(sources[place], pixels, self.shape)
        return torch.from_numpy((pixels.astype(np.float32) - self.mean) / self.std), int(labels[place])


def lazily_standardised(name: str, train: Unread, test: Unread, classes: int) -> Lazy:
    """Both sets, with mean and standard deviation of each channel over MEASURED training images from all over the set.

    Of all of them, where there are no more: then inputs are those of `images.standardised`, up to rounding.
    """
    read, sources, labels = train
    shape = read(sources[0]).shape
    count, total, square, pixels = min(MEASURED, len(labels)), np.zeros(shape[0]), np.zeros(shape[0]), 0
    for place in np.linspace(0, len(labels) - 1, count).round().astype(int):
        image = read(sources[place])
        require_shape(sources[place], image, shape)
        x = image.astype(np.float64)
        total, square = total + x.sum((1, 2)), square + (x**2).sum((1, 2))
        pixels += x[0].size
    mean = total / pixels
    std = np.sqrt(np.maximum(square / pixels - mean**2, 0))
    m, s = (part.astype(np.float32)[:, None, None] for part in (mean, np.where(std > 0, std, 1.0)))
    span = torch.from_numpy((0 - m) / s)[None], torch.from_numpy((255 - m) / s)[None]
    return lazy(name, [Decoded(part, shape, m, s) for part in (train, test)], classes, span=span)


def like(data: Lazy, name: str, unread: Unread, shape: tuple[int, ...]) -> Part:
    """Other images as a part of the same data, standardised by its span."""
    black, white = (end[0].numpy() for end in data.pixel_span)
    std = 255 / (white - black)
    source = Decoded(unread, shape, -black * std, std)
    return Part(Sample(source, name, data.classes), torch.arange(len(source), device="cpu"))


def require_shape(source: Any, pixels: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the image of a file or a place has the shape."""
    same = pixels.shape == shape
    require(same, f"{source} must be an image of shape {shape} (or give image_size), got {pixels.shape}")
