"""A folder of images by class: train/CLASS/image.png and test/CLASS/image.png (or val in place of test)."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from landscape.checks import integer_in, require
from landscape.data.files import reading
from landscape.data.images import Images, Labelled, standardised
from landscape.data.lazy import Lazy
from landscape.data.lazy_images import Unread, lazily_standardised, require_shape

TESTS = ("test", "val", "validation")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp", ".tif", ".tiff", ".gif")


def image_folder(
    folder: str | Path, label_noise: float = 0.0, seed: int = 0, image_size: int = 0, grey: bool = False
) -> Images:
    """The images as tensors (N, 3, height, width), standardised by channel; the classes are train's, by name.

    Args:
        folder: with train and test (or val), each with a folder of images a class.
        label_noise: fraction of training labels moved to another class, in [0, 1].
        seed: of the label noise.
        image_size: side of the images, whose shorter side is resized to it and of which the middle is taken; 0 takes
            them as they are, all of one size.
        grey: one channel in place of red, green and blue.
    Raises:
        ValueError: if a folder is missing, an image is broken, or sizes differ.
    """
    train, test, classes = _found(Path(folder), image_size)
    pixels = read_images(train, classes, image_size, grey)
    others = read_images(test, classes, image_size, grey, pixels[0].shape[1:])
    made = replace(standardised(pixels, others, len(classes)), class_names=tuple(classes))
    return made.with_label_noise(label_noise, seed)


def lazy_image_folder(
    folder: str | Path, label_noise: float = 0.0, seed: int = 0, image_size: int = 0, grey: bool = False
) -> Lazy:
    """The same, each image decoded when it is asked for; see `lazily_standardised`."""
    train, test, classes = _found(Path(folder), image_size)
    parts = [lazy_images(where, classes, image_size, grey) for where in (train, test)]
    made = lazily_standardised(f"folder {folder}", parts[0], parts[1], len(classes))
    return replace(made, class_names=tuple(classes)).with_label_noise(label_noise, seed)


def _found(folder: Path, image_size: int) -> tuple[Path, Path, list[str]]:
    """Training and test folder, and the classes."""
    integer_in("image_size", image_size, 0)
    tests = [name for name in TESTS if (folder / name).is_dir()]
    found = (folder / "train").is_dir() and bool(tests)
    require(found, f"data_path must be a folder with train and test in it, found no such two in {folder}")
    classes = sorted(path.name for path in (folder / "train").iterdir() if path.is_dir())
    return folder / "train", folder / tests[0], classes


def lazy_images(folder: Path, classes: Sequence[str], image_size: int, grey: bool) -> Unread:
    """The images of a folder, unread, and their labels."""
    files, labels = zip(*_listed(folder, classes), strict=True)
    return partial(_read, image_size=image_size, grey=grey), files, np.array(labels)


def read_images(
    folder: Path, classes: Sequence[str], image_size: int, grey: bool, shape: tuple[int, ...] = ()
) -> Labelled:
    """uint8 images (N, channels, height, width), of `shape` where it is given, and labels: places in `classes`.

    Some classes may be missing (ImageNet-R has 200 of ImageNet's thousand).
    """
    pixels, labels = [], []
    for file, label in _listed(folder, classes):
        image = _read(file, image_size, grey)
        shape = shape or image.shape
        require_shape(file, image, shape)
        pixels.append(image)
        labels.append(label)
    return np.stack(pixels), np.array(labels)


def _listed(folder: Path, classes: Sequence[str]) -> list[tuple[str, int]]:
    """The files of images, and their classes' places."""
    found = []
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        require(path.name in classes, f"{folder} must hold the classes of train, got {path.name}")
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        found += [(str(file), classes.index(path.name)) for file in files]
    require(
        bool(found), f"{folder} must hold a folder of images for each class, found no image ({', '.join(SUFFIXES)})"
    )
    return found


def _read(file: str, image_size: int, grey: bool) -> np.ndarray:
    from PIL import Image  # comes with matplotlib

    with reading(Path(file), "an image"), Image.open(file) as image:
        return as_pixels(image, image_size, grey)


def as_pixels(image: Any, image_size: int, grey: bool) -> np.ndarray:
    """uint8 (channels, height, width) of a Pillow image."""
    image = image.convert("L" if grey else "RGB")
    if image_size:
        scale = image_size / min(image.size)
        width, height = (max(round(side * scale), image_size) for side in image.size)
        left, top = (width - image_size) // 2, (height - image_size) // 2
        image = image.resize((width, height)).crop((left, top, left + image_size, top + image_size))
    pixels = np.asarray(image, np.uint8)
    return np.ascontiguousarray(pixels[None] if grey else pixels.transpose(2, 0, 1))
