"""Corruptions of images in five severities, as ImageNet-C names them, by torch's operations.

Constants are those of the benchmark's code: ImageNet-C's, or CIFAR-C's for images of fewer than 64 pixels a side. Left
out are snow, frost, fog, motion, zoom, elastic and JPEG: a mean over what is here is not the benchmark's.
Source: Hendrycks & Dietterich 2019, arXiv:1903.12261.
"""

from collections.abc import Callable
from math import ceil
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from landscape.checks import integer_in, one_of

SEVERITIES = (1, 2, 3, 4, 5)
SMALL = 64  # pixels a side, from which on ImageNet-C's constants hold


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
    function, large, small = CORRUPTIONS[name]
    constants = small if min(images.shape[2:]) < SMALL else large
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
    """A normal density of standard deviation c pixels, cut at 4 c."""
    place = torch.arange(-ceil(4 * c), ceil(4 * c) + 1, dtype=x.dtype, device=x.device)
    line = torch.exp(-(place**2) / (2 * c**2))
    return _blur(_blur(x, line[:, None]), line[None])


def defocus_blur(x: Tensor, c: tuple[float, float], _generator: Generator) -> Tensor:
    """A disc of radius c₁ pixels, its edge smoothed by a normal density of standard deviation c₂ on 3 x 3 or 5 x 5."""
    radius, sigma = c
    reach = 1 if radius <= 8 else 2
    place = torch.arange(-ceil(radius) - reach, ceil(radius) + reach + 1, dtype=x.dtype, device=x.device)
    disc = (place[:, None] ** 2 + place**2 <= radius**2).to(x)
    line = torch.exp(-(torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device) ** 2) / (2 * sigma**2))
    edge = line[:, None] * line
    return _blur(x, F.conv2d(disc[None, None], edge[None, None] / edge.sum(), padding=reach)[0, 0])


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
    """Fewer pixels, a share c along each side, as means over what they cover."""
    height, width = x.shape[2:]
    fewer = F.interpolate(x, (max(int(height * c), 1), max(int(width * c), 1)), mode="area")
    return F.interpolate(fewer, (height, width), mode="nearest-exact")


def _blur(x: Tensor, kernel: Tensor) -> Tensor:
    """The mean of the pixels around each, weighted by a kernel of odd sides; the border goes on as it ends."""
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, -1, -1)
    down, right = (side // 2 for side in kernel.shape[2:])
    return F.conv2d(F.pad(x, (right, right, down, down), mode="replicate"), kernel, groups=x.shape[1])


# name -> function, constants of ImageNet-C and of CIFAR-C
CORRUPTIONS: dict[str, tuple[Callable[[Tensor, Any, Generator], Tensor], tuple[Any, ...], tuple[Any, ...]]] = {
    "gaussian_noise": (gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38), (0.04, 0.06, 0.08, 0.09, 0.1)),
    "shot_noise": (shot_noise, (60, 25, 12, 5, 3), (500, 250, 100, 75, 50)),
    "impulse_noise": (impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27), (0.01, 0.02, 0.03, 0.05, 0.07)),
    "speckle_noise": (speckle_noise, (0.15, 0.2, 0.35, 0.45, 0.6), (0.06, 0.1, 0.12, 0.16, 0.2)),
    "gaussian_blur": (gaussian_blur, (1, 2, 3, 4, 6), (0.4, 0.6, 0.7, 0.8, 1)),
    "defocus_blur": (
        defocus_blur,
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    ),
    "contrast": (contrast, (0.4, 0.3, 0.2, 0.1, 0.05), (0.75, 0.5, 0.4, 0.3, 0.15)),
    "brightness": (brightness, (0.1, 0.2, 0.3, 0.4, 0.5), (0.05, 0.1, 0.15, 0.2, 0.3)),
    "pixelate": (pixelate, (0.6, 0.5, 0.4, 0.3, 0.25), (0.95, 0.9, 0.85, 0.75, 0.65)),
}
