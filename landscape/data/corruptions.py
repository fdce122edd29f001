"""Corruptions of images in five severities, as ImageNet-C names them, by torch's operations.

Constants follow the size of the images: below 64 pixels a side CIFAR-C's (for 32), below 128 Tiny ImageNet-C's (for
64), from there on ImageNet-C's (for 224). Here are seven of the benchmark's fifteen, and speckle noise and Gaussian
blur of its four further ones; left out are glass, motion and zoom blur, snow, frost, fog, elastic, JPEG, spatter and
saturate: a mean over what is here is not the benchmark's. Images are not rounded, nor stored as JPEG, as its are.
Source: Hendrycks & Dietterich 2019, arXiv:1903.12261; their code, hendrycks/robustness, ImageNet-C/create_c:
make_cifar_c.py, make_tinyimagenet_c.py, make_imagenet_c.py.
"""

from bisect import bisect
from collections.abc import Callable
from math import ceil
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from landscape.checks import integer_in, one_of

SEVERITIES = (1, 2, 3, 4, 5)
SIZES = (64, 128)  # pixels a side, from which on Tiny ImageNet-C's and ImageNet-C's constants hold


def corrupt(images: Tensor, name: str, severity: int, generator: Generator) -> Tensor:
    """The images after one corruption.

    Args:
        images: (N, channels, height, width), black 0 and white 1.
        name: in CORRUPTIONS.
        severity: 1 to 5.
        generator: of the noise, a CPU generator for the same noise on every device.
    Returns:
        Images in [0, 1].
    Raises:
        ValueError: if the name or the severity is unknown.
    """
    one_of("corruption", name, CORRUPTIONS)
    integer_in("severity", severity, 1, 5)
    function, *sets = CORRUPTIONS[name]
    constants = sets[bisect(SIZES, min(images.shape[2:]))]
    return function(images, constants[severity - 1], generator).clamp(0, 1)


def _normal(x: Tensor, generator: Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, device=generator.device).to(x)


def gaussian_noise(x: Tensor, c: float, generator: Generator) -> Tensor:
    """x + c n, n ~ N(0, 1)."""
    return x + c * _normal(x, generator)


def shot_noise(x: Tensor, c: float, generator: Generator) -> Tensor:
    """Poisson(c x) / c: photons that are counted."""
    return torch.poisson((x * c).to(generator.device), generator).to(x) / c


def impulse_noise(x: Tensor, c: float, generator: Generator) -> Tensor:
    """A share c of the values is black or white, half of them each."""
    drawn = torch.rand(x.shape, generator=generator, device=generator.device).to(x.device)
    return x.masked_fill(drawn < c / 2, 0.0).masked_fill(drawn > 1 - c / 2, 1.0)


def speckle_noise(x: Tensor, c: float, generator: Generator) -> Tensor:
    """x + c x n, n ~ N(0, 1)."""
    return x + c * x * _normal(x, generator)


def gaussian_blur(x: Tensor, c: float, _generator: Generator) -> Tensor:
    """A normal density of standard deviation c pixels, cut at 4 c; the border goes on as it ends."""
    reach = int(4 * c + 0.5)
    line = _density(reach, c, x)
    return _blur(_blur(F.pad(x, (reach,) * 4, mode="replicate"), line[:, None]), line[None])


def defocus_blur(x: Tensor, c: tuple[float, float], _generator: Generator) -> Tensor:
    """A disc of radius c₁ pixels, its edge smoothed by a normal density of standard deviation c₂ on 3 x 3 or 5 x 5.

    Borders go on as in a mirror. The disc sums to 1, where that of the code, cut at its edge, makes images brighter by
    1.3 and 1.1 % at ImageNet-C's severities 4 and 5.
    """
    radius, sigma = c
    whole = ceil(radius)
    reach = min(whole + 2, max(whole, 8))
    place = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    disc = (place[:, None] ** 2 + place**2 <= radius**2).to(x)[None, None]
    edge = 1 if radius <= 8 else 2
    line = _density(edge, sigma, x)
    return _blur(_mirrored(x, reach), _blur(_mirrored(disc, edge), line[:, None] * line)[0, 0])


def contrast(x: Tensor, c: float, _generator: Generator) -> Tensor:
    """Each channel's distance from its mean over the pixels, times c."""
    mean = x.mean((2, 3), keepdim=True)
    return mean + c * (x - mean)


def brightness(x: Tensor, c: float, _generator: Generator) -> Tensor:
    """The value of hue, saturation and value is raised by c, to 1 at most."""
    value = x.amax(1, keepdim=True)
    raised = (value + c).clamp(max=1)
    return torch.where(value > 0, x * (raised / value.where(value > 0, 1.0)), raised)


def pixelate(x: Tensor, c: float, _generator: Generator) -> Tensor:
    """Fewer pixels, a share c along each side, as means of those whose middle they cover."""
    height, width = x.shape[2:]
    fewer = _boxes(height, int(height * c), x) @ x @ _boxes(width, int(width * c), x).mT
    return F.interpolate(fewer, (height, width), mode="nearest-exact")


def _boxes(side: int, count: int, x: Tensor) -> Tensor:
    """Means over each of `count` equal parts of a side, whose left ends are not theirs, (count, side)."""
    count = max(count, 1)
    part = ((2 * torch.arange(side, device=x.device) + 1) * count - 1) // (2 * side)
    member = F.one_hot(part, count).to(x)
    return (member / member.sum(0)).mT


def _density(reach: int, sigma: float, x: Tensor) -> Tensor:
    return torch.exp(-(torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device) ** 2) / (2 * sigma**2))


def _mirrored(x: Tensor, reach: int) -> Tensor:
    """`reach` more pixels on each side, the last one not doubled; sides may be shorter than that."""
    for axis in (2, 3):
        last = x.shape[axis] - 1
        place = torch.arange(-reach, last + reach + 1, device=x.device) % max(2 * last, 1)
        x = x.index_select(axis, last - (place - last).abs())
    return x


def _blur(x: Tensor, kernel: Tensor) -> Tensor:
    """The mean of the pixels around each, weighted by a kernel, where the whole of it fits."""
    return F.conv2d(x, (kernel / kernel.sum()).expand(x.shape[1], 1, -1, -1), groups=x.shape[1])


# name -> function, constants of CIFAR-C, of Tiny ImageNet-C and of ImageNet-C
Constants = tuple[Any, ...]
CORRUPTIONS: dict[str, tuple[Callable[[Tensor, Any, Generator], Tensor], Constants, Constants, Constants]] = {
    "gaussian_noise": (
        gaussian_noise,
        (0.04, 0.06, 0.08, 0.09, 0.1),
        (0.04, 0.08, 0.12, 0.15, 0.18),
        (0.08, 0.12, 0.18, 0.26, 0.38),
    ),
    "shot_noise": (shot_noise, (500, 250, 100, 75, 50), (250, 100, 50, 30, 15), (60, 25, 12, 5, 3)),
    "impulse_noise": (
        impulse_noise,
        (0.01, 0.02, 0.03, 0.05, 0.07),
        (0.01, 0.02, 0.05, 0.08, 0.14),
        (0.03, 0.06, 0.09, 0.17, 0.27),
    ),
    "speckle_noise": (
        speckle_noise,
        (0.06, 0.1, 0.12, 0.16, 0.2),
        (0.15, 0.2, 0.25, 0.3, 0.35),
        (0.15, 0.2, 0.35, 0.45, 0.6),
    ),
    "gaussian_blur": (gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1), (0.5, 0.75, 1, 1.25, 1.5), (1, 2, 3, 4, 6)),
    "defocus_blur": (
        defocus_blur,
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((0.5, 0.6), (1, 0.1), (1.5, 0.1), (2.5, 0.01), (3, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    "contrast": (contrast, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "brightness": (brightness, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "pixelate": (pixelate, (0.95, 0.9, 0.85, 0.75, 0.65), (0.9, 0.8, 0.7, 0.6, 0.5), (0.6, 0.5, 0.4, 0.3, 0.25)),
}
