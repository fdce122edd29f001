"""A set of images for classification, and symmetric label noise on it."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from landscape.checks import require


@dataclass(frozen=True, eq=False)
class Images:
    """Images and classes as tensors. Label noise, where there is any, is in `train_targets` only."""

    train_inputs: Tensor  # (N, channels, height, width), float32, standardised
    train_targets: Tensor  # (N,), int64; what a network is trained on
    test_inputs: Tensor  # (M, channels, height, width), standardised as the training images
    test_targets: Tensor  # (M,), int64
    clean_targets: Tensor  # (N,), the training images' true classes
    classes: int

    @property
    def flipped(self) -> Tensor:
        """Which training labels are wrong, (N,) bool."""
        return self.train_targets != self.clean_targets

    def with_label_noise(self, fraction: float, seed: int) -> "Images":
        """Symmetric noise: round(fraction N) training labels, chosen by `seed`, moved to a uniformly drawn other class.

        Raises:
            ValueError: if fraction is outside [0, 1].
        """
        require(0 <= fraction <= 1, f"label_noise must be in [0, 1], got {fraction!r}")
        generator = torch.Generator().manual_seed(seed)
        count = len(self.clean_targets)
        chosen = torch.randperm(count, generator=generator)[: round(fraction * count)]
        shift = torch.randint(1, self.classes, chosen.shape, generator=generator)
        noisy = self.clean_targets.clone()
        noisy[chosen] = (noisy[chosen] + shift) % self.classes
        return replace(self, train_targets=noisy)
