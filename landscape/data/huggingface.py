"""Images in a Hugging Face data set that was saved to disk (`DatasetDict.save_to_disk`)."""

from pathlib import Path
from typing import Any

import numpy as np

from landscape.checks import first_line, integer_in, require
from landscape.data.files import labelled, reading
from landscape.data.image_folder import TESTS, as_pixels
from landscape.data.images import Images, Labelled, standardised

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
    integer_in("image_size", image_size, 0)
    try:
        from datasets import load_from_disk
    except Exception as error:
        cure = "pip install 'landscape-toolkit[datasets]'"
        raise ImportError(f"dataset 'huggingface' needs datasets: {first_line(error)}; {cure}") from error

    folder = Path(folder)
    with reading(folder, EXPECTED):
        saved = load_from_disk(str(folder))
        train, test = (saved[name] for name in ("train", next(name for name in TESTS if name in saved)))
    rows = [_read(folder, split, image_size, grey) for split in (train, test)]
    sizes = [pixels.shape[1:] for pixels, _ in rows]
    require(sizes[0] == sizes[1], f"{folder} must have images of one size, got {sizes[0]} and {sizes[1]}")
    classes = int(max(labels.max() for _, labels in rows)) + 1
    return standardised(rows[0], rows[1], classes).with_label_noise(label_noise, seed)


def _read(folder: Path, split: Any, image_size: int, grey: bool) -> Labelled:
    with reading(folder, EXPECTED):
        image, label = (next(name for name in names if name in split.column_names) for names in (IMAGES, LABELS))
        pixels = np.stack([as_pixels(row[image], image_size, grey) for row in split])
        labels = np.array([row[label] for row in split], np.int64)
    return labelled(folder, pixels, labels, int(labels.max()) + 1)
