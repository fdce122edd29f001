"""Augmentation of a batch, wherever the batch is: new tensors, all randomness from a generator.

Random numbers are drawn where the generator is and moved to the images: the same CPU generator gives the same
augmentation on every device. What is not covered is filled with 0, the mean colour of standardised images.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from landscape.checks import integer_in, not_negative


@dataclass(frozen=True)
class Augmentation:
    """What is done to a batch of training images, in this order; the default is nothing.

    Attributes:
        crop: pixels of padding of `random_crop`; 0 for none.
        flip: whether to `horizontal_flip`.
        cutout: side of the square of `cutout`; 0 for none.
        mixup: alpha of `mixup`; 0 for none. The targets are then probabilities (N, classes).
    """

    crop: int = 0
    flip: bool = False
    cutout: int = 0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        integer_in("crop", self.crop, 0)
        integer_in("cutout", self.cutout, 0)
        not_negative("mixup", self.mixup)

    def __call__(self, images: Tensor, targets: Tensor, classes: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """The batch that the network sees: images (N, channels, height, width) and targets for `F.cross_entropy`."""
        if self.crop:
            images = random_crop(images, self.crop, generator)
        if self.flip:
            images = horizontal_flip(images, generator)
        if self.cutout:
            images = cutout(images, self.cutout, generator)
        if self.mixup:
            images, targets = mixup(images, targets, classes, self.mixup, generator)
        return images, targets


def random_crop(images: Tensor, padding: int, generator: Generator) -> Tensor:
    """Each image shifted by up to `padding` pixels along both axes, uniformly.

    4 for CIFAR. Source: He et al. 2016, section 4.2, arXiv:1512.03385.
    """
    count, _, height, width = images.shape
    shift = torch.randint(2 * padding + 1, (2, count), generator=generator, device=generator.device)
    down, right = shift.to(images.device)
    windows = (
        F.pad(images, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    )  # a view: (N, C, down, right, H, W)
    return windows[torch.arange(count, device=images.device), :, down, right]


def horizontal_flip(images: Tensor, generator: Generator) -> Tensor:
    """Each image mirrored left to right with probability 1/2."""
    mirrored = torch.rand(len(images), 1, 1, 1, generator=generator, device=generator.device) < 0.5
    return torch.where(mirrored.to(images.device), images.flip(3), images)


def cutout(images: Tensor, size: int, generator: Generator) -> Tensor:
    """Each image without a square of `size` pixels, whose centre is uniform over the image; it may reach over the edge.

    The paper's sizes are 16 for CIFAR-10, 8 for CIFAR-100 and 20 for SVHN.

    Source: DeVries & Taylor 2017, arXiv:1708.04552.
    """
    count, _, height, width = images.shape
    inside = []
    for length in (height, width):
        centre = torch.randint(length, (count, 1), generator=generator, device=generator.device)
        distance = torch.arange(length, device=images.device) - centre.to(images.device) + size // 2
        inside.append((distance >= 0) & (distance < size))  # (N, length)
    rows, columns = inside
    return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


def mixup(images: Tensor, targets: Tensor, classes: int, alpha: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """λ x + (1 − λ) x' and λ y + (1 − λ) y', where (x', y') is the batch in another order; one λ ~ Beta(α, α) a batch.

    Args:
        images: (N, channels, height, width).
        targets: classes (N,).
        classes: their number.
        alpha: positive; 1 for CIFAR in the paper.
        generator: of λ and of the order.
    Returns:
        Images, and targets as probabilities (N, classes). Cross entropy is linear in them, so that F.cross_entropy
        gives λ L(y) + (1 − λ) L(y'), with label smoothing too.
    Source: Zhang et al. 2018, arXiv:1710.09412.
    """
    seed = torch.randint(2**62, (), generator=generator, device=generator.device).item()
    share = float(np.random.default_rng(int(seed)).beta(alpha, alpha))  # torch's Beta takes no generator
    order = torch.randperm(len(images), generator=generator, device=generator.device).to(images.device)
    soft = F.one_hot(targets, classes).to(images.dtype)
    return share * images + (1 - share) * images[order], share * soft + (1 - share) * soft[order]
