"""CIFAR-10 and CIFAR-100, the binary version or the Python one, whose pickles are not run.

A binary record is its label bytes, then 3 · 32 · 32 bytes of red, green and blue.

Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images"; www.cs.toronto.edu/~kriz/cifar.html.
"""

from pathlib import Path

import numpy as np

from landscape.data.files import existing, intact, labelled
from landscape.data.images import Images, Labelled, standardised
from landscape.data.pickled import read_pickled

PIXELS = 3 * 32 * 32


def cifar10(folder: str | Path, label_noise: float = 0.0, seed: int = 0) -> Images:
    """CIFAR-10 as tensors (N, 3, 32, 32), standardised by channel; the files may hold any number of records.

    Args:
        folder: cifar-10-batches-bin, with data_batch_1.bin to data_batch_5.bin and test_batch.bin; or
            cifar-10-batches-py, where they have no .bin.
        label_noise: fraction of training labels moved to another class, in [0, 1].
        seed: of the label noise.
    Raises:
        ValueError: if a file is missing or broken.
    """
    batches = [_records(Path(folder), f"data_batch_{i}", 1, 10) for i in range(1, 6)]
    pixels, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    test = _records(Path(folder), "test_batch", 1, 10)
    return standardised((pixels, labels), test, 10).with_label_noise(label_noise, seed)


def cifar100(folder: str | Path, label_noise: float = 0.0, seed: int = 0) -> Images:
    """CIFAR-100 with its hundred fine classes; the rest is as in `cifar10`.

    Args:
        folder: cifar-100-binary, with train.bin and test.bin; or cifar-100-python, with train and test.
        label_noise: fraction of training labels moved to another class, in [0, 1].
        seed: of the label noise.
    Raises:
        ValueError: if a file is missing or broken.
    """
    train, test = (_records(Path(folder), name, 2, 100) for name in ("train", "test"))
    return standardised(train, test, 100).with_label_noise(label_noise, seed)


def _records(folder: Path, name: str, label_bytes: int, classes: int) -> Labelled:
    """Images (N, 3, 32, 32) and labels (N,) of one file; the label is the last of its bytes (the first is coarse)."""
    if (folder / name).is_file():
        return read_pickled(folder / name, classes)
    path = existing(folder / f"{name}.bin", f"the unpacked folder of CIFAR-{classes}, Python or binary version")
    content = np.fromfile(path, np.uint8)
    record = label_bytes + PIXELS
    intact(path, content.size > 0 and content.size % record == 0, f"records of {record} bytes", f"{content.size} bytes")
    rows = content.reshape(-1, record)
    return labelled(path, rows[:, label_bytes:].reshape(-1, 3, 32, 32), rows[:, label_bytes - 1], classes)
