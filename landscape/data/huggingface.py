"""Images in a Hugging Face data set that was saved to disk (`DatasetDict.save_to_disk`)."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from landscape.checks import first_line, integer_in, require
from landscape.data.files import labelled, reading
from landscape.data.image_folder import TESTS, as_pixels
from landscape.data.images import Images, Labelled, standardised
from landscape.data.lazy import Lazy
from landscape.data.lazy_images import Unread, lazily_standardised

IMAGES, LABELS = ("image", "img", "pixel_values"), ("label", "labels", "fine_label")  # columns, first found
EXPECTED = "a saved DatasetDict with train and test, a column of images and one of labels"


def huggingface(
    folder: str | Path, label_noise: float = 0.0, seed: int = 0, image_size: int = 0, grey: bool = False
) -> Images:
    """The images as tensors (N, channels, height, width), standardised by channel.

    Args:
        folder: that `save_to_disk` wrote.
        label_noise: fraction of training labels moved to another class, in [0, 1].
        seed: of the label noise.
        image_size: side of the images, see `image_folder`; 0 takes them as they are, all of one size.
        grey: one channel in place of red, green and blue.
    Raises:
        ImportError: without `datasets`.
        ValueError: if there is no such data set, or columns or sizes do not fit.
    """
    folder, train, test = _saved(Path(folder), image_size)
    rows = [_read(folder, split, image_size, grey) for split in (train, test)]
    sizes = [pixels.shape[1:] for pixels, _ in rows]
    require(sizes[0] == sizes[1], f"{folder} must have images of one size, got {sizes[0]} and {sizes[1]}")
    classes = int(max(labels.max() for _, labels in rows)) + 1
    return standardised(rows[0], rows[1], classes).with_label_noise(label_noise, seed)


def lazy_huggingface(
    folder: str | Path, label_noise: float = 0.0, seed: int = 0, image_size: int = 0, grey: bool = False
) -> Lazy:
    """The same, each image decoded when it is asked for; see `lazily_standardised`. Labels are read at once."""
    folder, train, test = _saved(Path(folder), image_size)
    parts: list[Unread] = []
    for split in (train, test):
        with reading(folder, EXPECTED):
            image, label = _columns(split)
            labels = np.array(list(split[label]), np.int64)
        parts.append((partial(_decoded, split, image, image_size, grey), range(len(labels)), labels))
    classes = int(max(labels.max(initial=0) for *_, labels in parts)) + 1
    return lazily_standardised(f"huggingface {folder}", parts[0], parts[1], classes).with_label_noise(label_noise, seed)


def _saved(folder: Path, image_size: int) -> tuple[Path, Any, Any]:
    """The folder, its training and its test set."""
    integer_in("image_size", image_size, 0)
    try:
        from datasets import load_from_disk
    except Exception as error:
        cure = "pip install 'landscape-toolkit[datasets]'"
        raise ImportError(f"dataset 'huggingface' needs datasets: {first_line(error)}; {cure}") from error

    with reading(folder, EXPECTED):
        saved = load_from_disk(str(folder))
        train, test = (saved[name] for name in ("train", next(name for name in TESTS if name in saved)))
    return folder, train, test


def _decoded(split: Any, image: str, image_size: int, grey: bool, place: int) -> np.ndarray:
    return as_pixels(split[int(place)][image], image_size, grey)


def _columns(split: Any) -> tuple[str, str]:
    """Names of the columns of images and of labels."""
    image, label = (next(name for name in names if name in split.column_names) for names in (IMAGES, LABELS))
    return image, label


def _read(folder: Path, split: Any, image_size: int, grey: bool) -> Labelled:
    with reading(folder, EXPECTED):
        image, label = _columns(split)
        pixels = np.stack([as_pixels(row[image], image_size, grey) for row in split])
        labels = np.array([row[label] for row in split], np.int64)
    return labelled(folder, pixels, labels, int(labels.max()) + 1)
