"""A set of images (or of texts) for classification, and symmetric label noise on it."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from landscape.checks import require

SHOWN = 64  # samples that tell one data set from another
Labelled = tuple[np.ndarray, np.ndarray]  # images (N, channels, height, width) and labels (N,), of any number type


@dataclass(frozen=True, eq=False)
class Images:
    """Images and classes as tensors. Label noise, where there is any, is in `train_targets` only.

    Inputs may be anything with a first axis over samples, and targets (N, positions): windows of a text.
    """

    train_inputs: Tensor  # (N, channels, height, width), float32, standardised
    train_targets: Tensor  # (N,), int64; what a network is trained on
    test_inputs: Tensor  # (M, channels, height, width), standardised as the training images
    test_targets: Tensor  # (M,), int64
    clean_targets: Tensor  # (N,), the training images' true classes
    classes: int
    span: tuple[Tensor, Tensor] | None = None  # inputs of a black and of a white pixel, (1, channels, 1, 1) each
    class_names: tuple[str, ...] = ()

    @cached_property
    def pixel_span(self) -> tuple[Tensor, Tensor]:
        """`span`; where it is not known, each channel's least and largest value in the training set.

        Raises:
            ValueError: if the inputs are no images.
        """
        inputs = self.train_inputs
        are = inputs.ndim == 4 and inputs.is_floating_point()
        require(are, f"inputs must be images (N, channels, height, width), got {inputs.dtype} {tuple(inputs.shape)}")
        return self.span or (inputs.amin((0, 2, 3), keepdim=True), inputs.amax((0, 2, 3), keepdim=True))

    @property
    def count(self) -> int:
        """Training samples."""
        return len(self.train_targets)

    def first(self, samples: int) -> tuple[Tensor, Tensor]:
        """The first so many training samples."""
        return self.train_inputs[:samples], self.train_targets[:samples]

    def shown(self) -> tuple[Tensor, Tensor]:
        """Some training samples, from all over the set."""
        spread = torch.linspace(0, self.count - 1, min(SHOWN, self.count), device="cpu").long()
        return self.train_inputs[spread], self.train_targets[spread]

    def batches(self, of: str, size: int, samples: int | None = None) -> list[tuple[Tensor, Tensor]]:
        """Pairs (inputs, targets) of "train" or "test"."""
        whole = {"train": (self.train_inputs, self.train_targets), "test": (self.test_inputs, self.test_targets)}[of]
        return list(zip(*(part[:samples].split(size) for part in whole), strict=True))

    @property
    def flipped(self) -> Tensor:
        """Which training labels are wrong, (N,) bool."""
        return self.train_targets != self.clean_targets

    def with_label_noise(self, fraction: float, seed: int) -> "Images":
        """Symmetric noise: round(fraction N) training labels, chosen by `seed`, moved to a uniformly drawn other class.

        At 1 − 1/classes labels say nothing of the images, as those drawn uniformly; at 1 each says what it is not.

        Raises:
            ValueError: if fraction is outside [0, 1], or there are several labels an input.
        """
        require(0 <= fraction <= 1, f"label_noise must be in [0, 1], got {fraction!r}")
        several = self.clean_targets.ndim > 1
        require(not (fraction and several), f"label_noise must be 0 where an input has several labels, got {fraction}")
        if several:
            return self
        chosen, shift = noisy_places(len(self.clean_targets), self.classes, fraction, seed)
        noisy = self.clean_targets.clone()
        noisy[chosen] = (noisy[chosen] + shift) % self.classes
        return replace(self, train_targets=noisy)


def noisy_places(count: int, classes: int, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Places of the wrong labels among `count`, and what is added to them, modulo the classes."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(count, generator=generator, device="cpu")[: round(fraction * count)]
    return chosen, torch.randint(1, classes, chosen.shape, generator=generator, device="cpu")


def standardised(train: Labelled, test: Labelled, classes: int) -> Images:
    """Both sets as float32, (x − mean) / std, with mean and standard deviation of each channel over the training set.

    A channel that is constant is only centred. 0 is then the mean colour: augmentation fills with it.
    """
    inputs = [torch.from_numpy(pixels.astype(np.float32, order="C")) for pixels, _ in (train, test)]
    train_targets, test_targets = (torch.from_numpy(labels.astype(np.int64)) for _, labels in (train, test))
    std, mean = torch.std_mean(inputs[0], dim=(0, 2, 3), correction=0, keepdim=True)
    std = std.where(std > 0, 1.0)
    limits = (0, 255) if train[0].dtype == np.uint8 else (inputs[0].min(), inputs[0].max())
    for x in inputs:
        x.sub_(mean).div_(std)  # in place: CIFAR is 0.7 GB as float32
    span = (limits[0] - mean) / std, (limits[1] - mean) / std
    return Images(inputs[0], train_targets, inputs[1], test_targets, train_targets, classes, span)
