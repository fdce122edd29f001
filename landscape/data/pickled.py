"""CIFAR's Python version: pickles of dicts, read without calling anything that they name.

What a pickle may build here are dicts, lists, numbers, text and bytes. The few names in CIFAR's files stand for
records of this module, which keep what the file says of an array; any other name is refused before it is looked up.
"""

import pickle
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from landscape.checks import require
from landscape.data.files import intact, labelled, reading
from landscape.data.images import Labelled

EXPECTED = "a batch of CIFAR's Python version: a pickled dict of bytes, lists and one uint8 array"


class _Array:
    """What a file says of an array: (version, shape, dtype, Fortran order, bytes)."""

    pixels: np.ndarray

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        require(getattr(kind, "code", None) in ("u1", b"u1"), "an array is not of uint8")
        require(len(content) == prod(shape), f"an array of shape {shape} has {len(content)} bytes")
        self.pixels = np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")


class _Kind:
    """What a file says of a dtype."""

    def __init__(self, code: Any, *_flags: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like: nothing that a byte has."""


def _empty(*_described: Any) -> _Array:
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in protocol 2."""
    require(encoding == "latin1", f"bytes are in {encoding}")
    return text.encode("latin1")


NAMES: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _empty,
    ("numpy._core.multiarray", "_reconstruct"): _empty,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = NAMES.get((module, name))
        require(known is not None, f"it names {module}.{name}, which is no array")
        return known


def read_pickled(path: Path, classes: int) -> Labelled:
    """Images (N, 3, 32, 32) and labels (N,) of one file.

    Raises:
        ValueError: if the file is missing, broken, or names anything but an array.
    """
    with reading(path, EXPECTED), path.open("rb") as file:
        content = _Unpickler(file, encoding="bytes").load()
        content = {key if isinstance(key, bytes) else key.encode(): value for key, value in content.items()}
        pixels = content[b"data"].pixels
        labels = np.array(content[b"labels" if classes == 10 else b"fine_labels"], np.int64)
    intact(path, pixels.ndim == 2 and pixels.shape[1] == 3 * 32 * 32, "rows of 3072 bytes", f"{pixels.shape}")
    return labelled(path, pixels.reshape(-1, 3, 32, 32), labels, classes)
