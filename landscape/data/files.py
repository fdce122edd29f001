"""Files of a data set: one that is missing, truncated or of another format is named in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from landscape.checks import require
from landscape.data.images import Labelled


def existing(path: Path, expected: str) -> Path:
    """The path. Raises ValueError if there is no such file; `expected` says what data_path must be."""
    require(path.is_file(), f"data_path must be {expected}, found no file {path}")
    return path


def intact(path: Path, condition: bool, expected: str, got: object) -> None:
    """Raise ValueError unless `condition` holds: the file is not what was `expected`."""
    require(condition, f"{path} must be {expected}, got {got}; download or unpack it again")


@contextmanager
def reading(path: Path, expected: str) -> Iterator[None]:
    """Whatever a reader raises on a broken file becomes one ValueError that names the file."""
    try:
        yield
    except Exception as error:  # gzip, zipfile, zlib, numpy and scipy have a dozen kinds between them
        reason = str(error).partition("\n")[0] or type(error).__name__
        intact(path, False, expected, f"an error: {reason}")


def labelled(path: Path, pixels: np.ndarray, labels: np.ndarray, classes: int) -> Labelled:
    """Images with their labels. Raises ValueError unless there is one label an image, all in [0, classes)."""
    intact(path, len(labels) == len(pixels) > 0, "as many labels as images, at least one", f"{len(labels)} labels")
    low, high = int(labels.min()), int(labels.max())
    intact(path, low >= 0 and high < classes, f"labels from 0 to {classes - 1}", f"{low} to {high}")
    return pixels, labels
