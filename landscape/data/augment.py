"""Augmentation of a batch, wherever the batch is: new tensors, all randomness from a generator.

Random numbers are drawn where the generator is and moved to the images: the same CPU generator gives the same
augmentation on every device. What is not covered is filled with 0, the mean colour of standardised images.
"""

from dataclasses import dataclass
from math import log

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from landscape.checks import integer_in, not_negative, require
from landscape.data.image_operations import brightness, colour, contrast
from landscape.data.policies import HIGHEST, Span, auto_augment, rand_augment


@dataclass(frozen=True)
class Augmentation:
    """What is done to a batch of training images, in this order; the default is nothing.

    Attributes:
        crop: pixels of padding of `random_crop`; 0 for none.
        flip: whether to `horizontal_flip`.
        auto_augment: whether to `policies.auto_augment`.
        rand_augment: layers of `policies.rand_augment`; 0 for none.
        rand_magnitude: their magnitude, in [0, 30], three times the paper's; see `policies.rand_augment`.
        jitter: of `colour_jitter`; 0 for none.
        cutout: side of the square of `cutout`; 0 for none.
        erasing: probability of `random_erasing`; 0 for none.
        mixup: alpha of `mixup`; 0 for none. The targets are then probabilities (N, classes).
        cutmix: alpha of `cutmix`; 0 for none. With mixup too, one of them at random for each batch.
    """

    crop: int = 0
    flip: bool = False
    cutout: int = 0
    mixup: float = 0.0
    auto_augment: bool = False
    rand_augment: int = 0
    rand_magnitude: float = 9.0
    jitter: float = 0.0
    erasing: float = 0.0
    cutmix: float = 0.0

    @property
    def colours(self) -> bool:
        """Whether it must know what black and white are."""
        return bool(self.auto_augment or self.rand_augment or self.jitter)

    def __post_init__(self) -> None:
        integer_in("crop", self.crop, 0)
        integer_in("cutout", self.cutout, 0)
        not_negative("mixup", self.mixup)
        not_negative("cutmix", self.cutmix)
        integer_in("rand_augment", self.rand_augment, 0)
        for name, value, high in (("rand_magnitude", self.rand_magnitude, HIGHEST), ("erasing", self.erasing, 1)):
            require(0 <= value <= high, f"{name} must be in [0, {high}], got {value!r}")
        require(0 <= self.jitter <= 1, f"jitter must be in [0, 1], got {self.jitter!r}")

    def __call__(
        self, images: Tensor, targets: Tensor, classes: int, generator: Generator, span: Span | None = None
    ) -> tuple[Tensor, Tensor]:
        """The batch that the network sees: images (N, channels, height, width) and targets for `F.cross_entropy`.

        `span` is the inputs of a black and of a white pixel, such as `Images.pixel_span`, where `colours` asks for it.
        """
        if self.crop:
            images = random_crop(images, self.crop, generator)
        if self.flip:
            images = horizontal_flip(images, generator)
        if self.colours:
            images = self._recoloured(images, span, generator)
        if self.cutout:
            images = cutout(images, self.cutout, generator)
        if self.erasing:
            images = random_erasing(images, self.erasing, generator)
        alphas = [(mix, alpha) for mix, alpha in ((mixup, self.mixup), (cutmix, self.cutmix)) if alpha]
        if alphas:
            both = len(alphas) == 2 and torch.rand((), generator=generator, device=generator.device) < 0.5
            mix, alpha = alphas[both]
            images, targets = mix(images, targets, classes, alpha, generator)
        return images, targets

    def _recoloured(self, images: Tensor, span: Span | None, generator: Generator) -> Tensor:
        if span is None:
            raise ValueError("auto_augment, rand_augment and jitter need span, the inputs of a black and a white pixel")
        if self.auto_augment:
            images = auto_augment(images, span, generator)
        if self.rand_augment:
            images = rand_augment(images, self.rand_augment, self.rand_magnitude, span, generator)
        return colour_jitter(images, self.jitter, span, generator) if self.jitter else images


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

    Source: DeVries & Taylor 2017, arXiv:1708.04552; the sizes: uoguelph-mlrg/Cutout, README.
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
    share = _beta(alpha, generator)
    order = torch.randperm(len(images), generator=generator, device=generator.device).to(images.device)
    soft = F.one_hot(targets, classes).to(images.dtype)
    return share * images + (1 - share) * images[order], share * soft + (1 - share) * soft[order]


def cutmix(images: Tensor, targets: Tensor, classes: int, alpha: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """A rectangle of each image is that of another one; the targets are mixed by its share of the pixels.

    Its sides are √(1 − λ) of the image's, λ ~ Beta(α, α), its centre is uniform and what reaches over the edge is left
    out; one rectangle a batch.

    Args:
        images: (N, channels, height, width).
        targets: classes (N,).
        classes: their number.
        alpha: positive; 1 in the paper.
        generator: of the rectangle and of the order.
    Returns:
        Images, and targets as probabilities (N, classes).
    Source: Yun et al. 2019, arXiv:1905.04899; α: clovaai/CutMix-PyTorch, README (--beta 1.0).
    """
    side = (1 - _beta(alpha, generator)) ** 0.5
    order = torch.randperm(len(images), generator=generator, device=generator.device).to(images.device)
    cut = []
    for length in images.shape[2:]:
        centre = int(torch.randint(length, (), generator=generator, device=generator.device))
        half = round(side * length) / 2
        cut.append(slice(max(round(centre - half), 0), min(round(centre + half), length)))
    mixed = images.clone()
    mixed[:, :, cut[0], cut[1]] = images[order][:, :, cut[0], cut[1]]
    taken = mixed[0, 0, cut[0], cut[1]].numel() / images[0, 0].numel()
    soft = F.one_hot(targets, classes).to(images.dtype)
    return mixed, (1 - taken) * soft + taken * soft[order]


def random_erasing(images: Tensor, probability: float, generator: Generator) -> Tensor:
    """A rectangle of each image is noise, N(0, 1) for each value, with this probability.

    Its share of the pixels is uniform in [.02, .4], the logarithm of its height by its width in [log .3, log 3.3];
    a side that is longer than the image's is cut to it. The paper has the ratio itself uniform, in [.3, 1/.3], draws
    anew what does not fit, and uniform noise ("RE-R"); logarithm, 3.3 and normal noise are torchvision's RandomErasing.
    Source: Zhong et al. 2020, arXiv:1708.04896; zhunzhong07/Random-Erasing, transforms.py.
    """
    count, _, height, width = images.shape
    erased, area, ratio, top, left = torch.rand(5, count, generator=generator, device=generator.device).to(images)
    noise = torch.randn(images.shape, generator=generator, device=generator.device).to(images)
    pixels = (0.02 + 0.38 * area) * height * width
    ratio = torch.exp(log(0.3) + ratio * log(3.3 / 0.3))
    inside = []
    for length, side, start in ((height, (pixels * ratio).sqrt(), top), (width, (pixels / ratio).sqrt(), left)):
        size = side.round().clamp(1, length)
        first = (start * (length - size + 1)).floor()
        place = torch.arange(length, device=images.device)
        inside.append((place >= first[:, None]) & (place < (first + size)[:, None]))
    rows, columns = inside
    hole = rows[:, :, None] & columns[:, None, :] & (erased < probability)[:, None, None]
    return torch.where(hole[:, None], noise, images)


def colour_jitter(images: Tensor, size: float, span: Span, generator: Generator) -> Tensor:
    """Brightness, then contrast, then saturation, each times a factor of its own in [1 − size, 1 + size]."""
    black, white = (end.to(images) for end in span)
    x = ((images - black) / (white - black)).clamp(0, 1)
    drawn = torch.rand(3, len(x), 1, 1, 1, generator=generator, device=generator.device).to(x)
    for change, strength in zip((brightness, contrast, colour), size * (2 * drawn - 1), strict=True):
        x = change(x, strength, black)
    return black + (white - black) * x


def _beta(alpha: float, generator: Generator) -> float:
    """λ ~ Beta(α, α)."""
    seed = torch.randint(2**62, (), generator=generator, device=generator.device).item()
    return float(np.random.default_rng(int(seed)).beta(alpha, alpha))  # torch's Beta takes no generator
