"""RandAugment and AutoAugment: a few operations for each image, drawn anew."""

from functools import cache

import torch
from torch import Generator, Tensor

from landscape.data.image_operations import OPERATIONS

NAMES = tuple(OPERATIONS)
RANDOM = NAMES.index("invert")  # RandAugment draws from those before it
HIGHEST = 30  # magnitude of RandAugment as torchvision counts it; the paper counts to 10
Span = tuple[Tensor, Tensor]  # what a black and a white pixel are, (1, channels, 1, 1) each

# operation, its probability, its magnitude of 9; two of them in turn. Source: arXiv:1805.09501, appendix (CIFAR-10), as
# pytorch/vision, torchvision/transforms/autoaugment.py has it; 20 of them are also among the 95 of the authors' code,
# tensorflow/models, research/autoaugment/policies.py.
CIFAR = (
    ("invert", 0.1, 0, "contrast", 0.2, 6),
    ("rotate", 0.7, 2, "translate_x", 0.3, 9),
    ("sharpness", 0.8, 1, "sharpness", 0.9, 3),
    ("shear_y", 0.5, 8, "translate_y", 0.7, 9),
    ("autocontrast", 0.5, 0, "equalize", 0.9, 0),
    ("shear_y", 0.2, 7, "posterize", 0.3, 7),
    ("colour", 0.4, 3, "brightness", 0.6, 7),
    ("sharpness", 0.3, 9, "brightness", 0.7, 9),
    ("equalize", 0.6, 0, "equalize", 0.5, 0),
    ("contrast", 0.6, 7, "sharpness", 0.6, 5),
    ("colour", 0.7, 7, "translate_x", 0.5, 8),
    ("equalize", 0.3, 0, "autocontrast", 0.4, 0),
    ("translate_y", 0.4, 3, "sharpness", 0.2, 6),
    ("brightness", 0.9, 6, "colour", 0.2, 8),
    ("solarize", 0.5, 2, "invert", 0.0, 0),
    ("equalize", 0.2, 0, "autocontrast", 0.6, 0),
    ("equalize", 0.2, 0, "equalize", 0.6, 0),
    ("colour", 0.9, 9, "equalize", 0.6, 0),
    ("autocontrast", 0.8, 0, "solarize", 0.2, 8),
    ("brightness", 0.1, 3, "colour", 0.7, 0),
    ("solarize", 0.4, 5, "autocontrast", 0.9, 0),
    ("translate_y", 0.9, 9, "translate_y", 0.7, 9),
    ("autocontrast", 0.9, 0, "solarize", 0.8, 3),
    ("equalize", 0.8, 0, "invert", 0.1, 0),
    ("translate_y", 0.7, 9, "autocontrast", 0.9, 0),
)


def rand_augment(images: Tensor, layers: int, magnitude: float, span: Span, generator: Generator) -> Tensor:
    """`layers` operations in turn on each image, each one of fourteen with equal chances, all of one magnitude.

    Args:
        images: (N, channels, height, width), standardised.
        layers: N of the paper; 2 for ViTs in Chen et al. 2022.
        magnitude: of 30, where operations are as strong as AutoAugment's strongest: 10 in the paper. What the paper and
            its code have beyond that is not here, such as Chen's 15, which are half as much again.
        span: the inputs of a black and of a white pixel.
        generator: of all that is drawn.
    Source: Cubuk et al. 2020, arXiv:1909.13719; the count to 10: tensorflow/tpu,
    models/official/efficientnet/autoaugment.py, which Chen et al. 2022 have from MLP-Mixer's authors.
    """
    level = torch.full((len(images),), magnitude / HIGHEST, device=generator.device)
    draws = [
        (torch.randint(RANDOM, level.shape, generator=generator, device=generator.device), level) for _ in range(layers)
    ]
    return _applied(images, draws, span, generator)


def auto_augment(images: Tensor, span: Span, generator: Generator) -> Tensor:
    """One of the 25 pairs of operations that were found for CIFAR-10, each operation with its probability.

    Magnitude 9 is the strongest, and colours are raised or lowered with equal chances, as torchvision has it. The
    authors' code (augmentation_transforms.py beside policies.py) counts to 10, colours from .1 to 1.9 and shifts to 10
    of 32 pixels.
    Source: Cubuk et al. 2019, arXiv:1805.09501.
    """
    device = generator.device
    pair = torch.randint(len(CIFAR), (len(images),), generator=generator, device=device)
    draws = []
    for operation, probability, level in _tables():
        done = torch.rand(len(images), generator=generator, device=device) < probability.to(device)[pair]
        draws.append((operation.to(device)[pair].where(done, 0), level.to(device)[pair]))
    return _applied(images, draws, span, generator)


@cache
def _tables() -> list[tuple[Tensor, Tensor, Tensor]]:
    """For the first and the second operation of each pair: which, its probability, its level in [0, 1]."""
    found = []
    for first in (0, 3):
        names, probabilities, levels = zip(*(row[first : first + 3] for row in CIFAR), strict=True)
        places = torch.tensor([NAMES.index(name) for name in names], device="cpu")
        found.append((places, *(torch.tensor(values, device="cpu") for values in (probabilities, levels))))
    return [(places, probability, level / 9) for places, probability, level in found]


def _applied(images: Tensor, draws: list[tuple[Tensor, Tensor]], span: Span, generator: Generator) -> Tensor:
    """The operations in turn, each on the images that drew it; which those are is known where the generator is."""
    black, white = (end.to(images) for end in span)
    x = ((images - black) / (white - black)).clamp(0, 1)
    fill = -black / (white - black)  # the mean colour
    for choice, level in draws:
        sign = 2 * torch.randint(2, level.shape, generator=generator, device=generator.device) - 1
        x = x.clone()
        for place, operation in enumerate(OPERATIONS.values()):
            index = (choice == place).nonzero()[:, 0]
            if place and len(index):
                strength = operation.highest * (level * sign if operation.signed else level)[index]
                index = index.to(x.device)
                x[index] = operation.function(x[index], strength.to(x).view(-1, 1, 1, 1), fill)
    return black + (white - black) * x
