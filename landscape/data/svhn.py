"""Street View House Numbers, cropped digits, as MATLAB files: X (32, 32, 3, N) and y (N, 1), where 10 stands for 0.

Source: Netzer et al. 2011, "Reading Digits in Natural Images with Unsupervised Feature Learning".
"""

from pathlib import Path

import numpy as np

from landscape.data.files import existing, intact, labelled, reading
from landscape.data.images import Images, Labelled, standardised

EXPECTED = "a MATLAB 5 file with X (32, 32, 3, N) and y (N, 1)"


def svhn(folder: str | Path, label_noise: float = 0.0, seed: int = 0) -> Images:
    """SVHN's cropped digits as tensors (N, 3, 32, 32), standardised by channel; the class is the digit.

    Args:
        folder: with train_32x32.mat and test_32x32.mat.
        label_noise: fraction of training labels moved to another class, in [0, 1].
        seed: of the label noise.
    Raises:
        ValueError: if a file is missing or broken.
    """
    train, test = (_read(Path(folder) / f"{split}_32x32.mat") for split in ("train", "test"))
    return standardised(train, test, 10).with_label_noise(label_noise, seed)


def _read(path: Path) -> Labelled:
    existing(path, "a folder with SVHN's train_32x32.mat and test_32x32.mat (format 2, cropped digits)")
    from scipy.io import loadmat

    with reading(path, EXPECTED):
        content = loadmat(path, variable_names=("X", "y"))
        pixels, labels = np.asarray(content["X"]), np.asarray(content["y"])
    intact(path, pixels.shape[:-1] == (32, 32, 3), EXPECTED, f"X of shape {pixels.shape}")
    labels = labels.reshape(-1)
    return labelled(path, pixels.transpose(3, 2, 0, 1), np.where(labels == 10, 0, labels), 10)
