"""A set of images (or of texts) for classification, and symmetric label noise on it."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from landscape.checks import require

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
        generator = torch.Generator().manual_seed(seed)
        count = len(self.clean_targets)
        chosen = torch.randperm(count, generator=generator, device="cpu")[: round(fraction * count)]
        shift = torch.randint(1, self.classes, chosen.shape, generator=generator, device="cpu")
        noisy = self.clean_targets.clone()
        noisy[chosen] = (noisy[chosen] + shift) % self.classes
        return replace(self, train_targets=noisy)


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
