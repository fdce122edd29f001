"""The operations that AutoAugment and RandAugment choose from, on batches of images with black 0 and white 1.

Each is called with images (N, channels, height, width), a strength for each, (N, 1, 1, 1), and the colour of what comes
in from outside, (1, channels, 1, 1). Strengths and sampling by the nearest pixel are those of pytorch/vision,
torchvision/transforms/autoaugment.py.
Source: Cubuk et al. 2019, arXiv:1805.09501; Cubuk et al. 2020, arXiv:1909.13719.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor

GREY = (0.299, 0.587, 0.114)  # of red, green, blue, ITU-R 601
LEVELS = 255


@dataclass(frozen=True)
class Operation:
    """What it does, its strength at the highest level, and whether its direction is drawn."""

    function: Callable[[Tensor, Tensor, Tensor], Tensor]
    highest: float = 1.0
    signed: bool = False


def grey(x: Tensor) -> Tensor:
    """Brightness of each pixel, (N, 1, height, width)."""
    weights = x.new_tensor(GREY) if x.shape[1] == 3 else x.new_full((x.shape[1],), 1 / x.shape[1])
    return (x * weights.view(1, -1, 1, 1)).sum(1, keepdim=True)


def brightness(x: Tensor, strength: Tensor, _fill: Tensor) -> Tensor:
    """(1 + strength) x."""
    return ((1 + strength) * x).clamp(0, 1)


def contrast(x: Tensor, strength: Tensor, _fill: Tensor) -> Tensor:
    """Away from the image's mean brightness."""
    return _away(x, grey(x).mean((2, 3), keepdim=True), strength)


def colour(x: Tensor, strength: Tensor, _fill: Tensor) -> Tensor:
    """Away from each pixel's brightness."""
    return _away(x, grey(x), strength)


def sharpness(x: Tensor, strength: Tensor, _fill: Tensor) -> Tensor:
    """Away from a mean of 3 x 3 pixels, the one in the middle five times; the border stays."""
    if min(x.shape[2:]) < 3:
        return x
    kernel = x.new_ones(3, 3)
    kernel[1, 1] = 5
    inner = F.conv2d(x, (kernel / 13).expand(x.shape[1], 1, 3, 3), groups=x.shape[1])
    smooth = x.clone()
    smooth[:, :, 1:-1, 1:-1] = inner
    return _away(x, smooth, strength)


def _away(x: Tensor, origin: Tensor, strength: Tensor) -> Tensor:
    return (origin + (1 + strength) * (x - origin)).clamp(0, 1)


def posterize(x: Tensor, strength: Tensor, _fill: Tensor) -> Tensor:
    """The highest 8 − round(strength) bits of each value."""
    size = 2 ** strength.round()
    return ((x * LEVELS).round() / size).floor() * size / LEVELS


def solarize(x: Tensor, strength: Tensor, _fill: Tensor) -> Tensor:
    """What is at least 1 − strength is inverted."""
    return torch.where((x * LEVELS).round() >= (1 - strength) * LEVELS, 1 - x, x)


def invert(x: Tensor, _strength: Tensor, _fill: Tensor) -> Tensor:
    """1 − x."""
    return 1 - x


def autocontrast(x: Tensor, _strength: Tensor, _fill: Tensor) -> Tensor:
    """Each channel from black to white."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low).where(high > low, 1.0), x)


def equalize(x: Tensor, _strength: Tensor, _fill: Tensor) -> Tensor:
    """Each channel's values as nearly uniform as 256 levels allow, by its own histogram."""
    values = (x * LEVELS).round().long().clamp(0, LEVELS).flatten(0, 1).flatten(1)  # (N channels, pixels)
    counts = torch.zeros(len(values), LEVELS + 1, dtype=torch.long, device=x.device)
    counts.scatter_add_(1, values, torch.ones_like(values))
    step = (values.shape[1] - counts.gather(1, values.amax(1, keepdim=True))) // LEVELS  # without the brightest level
    before = counts.cumsum(1) - counts
    table = ((before + step // 2) // step.clamp(min=1)).clamp(max=LEVELS)
    found = table.gather(1, values).view(x.shape).to(x) / LEVELS
    return torch.where((step > 0).view(*x.shape[:2], 1, 1), found, x)


def identity(x: Tensor, _strength: Tensor, _fill: Tensor) -> Tensor:
    """The image."""
    return x


def shear_x(x: Tensor, strength: Tensor, fill: Tensor) -> Tensor:
    """Rows shifted in proportion to their distance from the middle."""
    return _moved(x, fill, torch.stack([_one(strength), strength * x.shape[2] / x.shape[3], 0 * strength], -1))


def shear_y(x: Tensor, strength: Tensor, fill: Tensor) -> Tensor:
    """Columns shifted in proportion to their distance from the middle."""
    return shear_x(x.mT, strength, fill).mT


def translate_x(x: Tensor, strength: Tensor, fill: Tensor) -> Tensor:
    """Shifted by a share of the width."""
    return _moved(x, fill, torch.stack([_one(strength), 0 * strength, 2 * strength], -1))


def translate_y(x: Tensor, strength: Tensor, fill: Tensor) -> Tensor:
    """Shifted by a share of the height."""
    return translate_x(x.mT, strength, fill).mT


def rotate(x: Tensor, strength: Tensor, fill: Tensor) -> Tensor:
    """Turned by an angle in radians around the middle."""
    ratio = x.shape[2] / x.shape[3]
    cosine, sine = strength.cos(), strength.sin()
    first = torch.stack([cosine, -sine * ratio, 0 * strength], -1)
    return _moved(x, fill, first, torch.stack([sine / ratio, cosine, 0 * strength], -1))


def _one(strength: Tensor) -> Tensor:
    return torch.ones_like(strength)


def _moved(x: Tensor, fill: Tensor, first: Tensor, second: Tensor | None = None) -> Tensor:
    """The pixels at an affine map of their places; the rows of the maps are (N, 1, 1, 1, 3)."""
    if second is None:
        second = torch.tensor([0.0, 1.0, 0.0], dtype=x.dtype, device=x.device).expand_as(first)
    grid = F.affine_grid(torch.stack([first, second], -2).view(-1, 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x - fill, grid, mode="nearest", align_corners=False) + fill


OPERATIONS = {
    "identity": Operation(identity),
    "shear_x": Operation(shear_x, 0.3, signed=True),
    "shear_y": Operation(shear_y, 0.3, signed=True),
    "translate_x": Operation(translate_x, 150 / 331, signed=True),
    "translate_y": Operation(translate_y, 150 / 331, signed=True),
    "rotate": Operation(rotate, pi / 6, signed=True),
    "brightness": Operation(brightness, 0.9, signed=True),
    "colour": Operation(colour, 0.9, signed=True),
    "contrast": Operation(contrast, 0.9, signed=True),
    "sharpness": Operation(sharpness, 0.9, signed=True),
    "posterize": Operation(posterize, 4.0),
    "solarize": Operation(solarize),
    "autocontrast": Operation(autocontrast),
    "equalize": Operation(equalize),
    "invert": Operation(invert),  # AutoAugment's alone
}
