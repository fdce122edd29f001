"""MNIST and Fashion-MNIST as IDX files, packed by gzip or not.

A file is two zero bytes, 8 for unsigned bytes, the number of dimensions, each size as a big-endian 32-bit integer, and
then the bytes. Source: LeCun et al. 1998, "The MNIST database"; Xiao et al. 2017, arXiv:1708.07747 (same format).
"""

import gzip
from math import prod
from pathlib import Path

import numpy as np

from landscape.data.files import existing, intact, labelled, reading
from landscape.data.images import Images, Labelled, standardised


def mnist(folder: str | Path, label_noise: float = 0.0, seed: int = 0) -> Images:
    """MNIST, or any set of ten classes in its files, as tensors (N, 1, height, width), standardised.

    Args:
        folder: with train-images-idx3-ubyte, train-labels-idx1-ubyte and the two t10k files; each may end in .gz.
        label_noise: fraction of training labels moved to another class, in [0, 1].
        seed: of the label noise.
    Raises:
        ValueError: if a file is missing or broken.
    """
    train, test = (_pair(Path(folder), split) for split in ("train", "t10k"))
    return standardised(train, test, 10).with_label_noise(label_noise, seed)


def _pair(folder: Path, split: str) -> Labelled:
    pixels, _ = _array(folder, f"{split}-images-idx3-ubyte", 3)
    labels, path = _array(folder, f"{split}-labels-idx1-ubyte", 1)
    return labelled(path, pixels[:, None], labels, 10)


def _array(folder: Path, name: str, dimensions: int) -> tuple[np.ndarray, Path]:
    """The array of one file, and the file."""
    packed = folder / f"{name}.gz"
    path = packed if packed.is_file() else existing(folder / name, "a folder with MNIST's four IDX files, .gz or not")
    expected = f"a whole IDX file of bytes in {dimensions} dimensions"
    with reading(path, expected):
        content = gzip.decompress(path.read_bytes()) if path == packed else path.read_bytes()
    start = 4 + 4 * dimensions
    magic = bytes((0, 0, 8, dimensions))
    intact(path, len(content) >= start and content[:4] == magic, expected, f"a start of 0x{content[:4].hex()}")
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    intact(path, len(content) == start + prod(shape), f"{start + prod(shape)} bytes", f"{len(content)}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape), path
