"""The 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn.

Source: Alpaydin & Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository.
"""

import numpy as np
import torch

from landscape.checks import integer_in
from landscape.data.images import Images


def digits(label_noise: float = 0.0, seed: int = 0, test_size: int = 597) -> Images:
    """Handwritten digits as tensors (N, 1, 8, 8), ten classes.

    The split is the same for every `seed` and every `label_noise`, and a smaller test set is part of a larger one;
    `seed` chooses the flipped labels only. The test labels are always clean. Pixels are standardised by the training
    set's mean and standard deviation, one of each for all pixels.

    Args:
        label_noise: fraction of training labels moved to another class, in [0, 1].
        seed: of the label noise.
        test_size: images held out, in [1, 1796].
    Raises:
        ValueError: if an argument is out of range.
    """
    from sklearn.datasets import load_digits  # which takes a second, and is not asked for elsewhere

    pixels, classes = load_digits(return_X_y=True)
    count = len(pixels)
    integer_in("test_size", test_size, 1, count - 1)
    order = np.random.RandomState(0).permutation(count)  # the legacy stream is frozen: the same split for ever
    inputs = torch.from_numpy(pixels[order]).float().view(count, 1, 8, 8)
    targets = torch.from_numpy(classes[order]).long()
    train, test = slice(test_size, None), slice(None, test_size)
    mean, std = inputs[train].mean(), inputs[train].std()
    inputs = (inputs - mean) / std
    black, white = ((pixel - mean).view(1, 1, 1, 1) / std for pixel in (0, 16))
    clean = Images(inputs[train], targets[train], inputs[test], targets[test], targets[train], 10, (black, white))
    return clean.with_label_noise(label_noise, seed)
