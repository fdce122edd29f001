"""Any images for classification as one .npz file of numpy. Nothing is unpickled.

Keys: train_inputs and test_inputs, (N, channels, height, width) or (N, height, width), of real numbers; train_targets
and test_targets, (N,), whole numbers from 0. `numpy.savez_compressed(path, train_inputs=..., ...)` writes such a file.
"""

from pathlib import Path

import numpy as np

from landscape.data.files import existing, intact, labelled, reading
from landscape.data.images import Images, Labelled, standardised

KEYS = ("train_inputs", "train_targets", "test_inputs", "test_targets")
EXPECTED = f"an .npz file with the arrays {', '.join(KEYS)}"


def npz(path: str | Path, label_noise: float = 0.0, seed: int = 0) -> Images:
    """The images in a file as tensors (N, channels, height, width), standardised by channel.

    There are as many classes as the largest label of both sets says.

    Args:
        path: of the file.
        label_noise: fraction of training labels moved to another class, in [0, 1].
        seed: of the label noise.
    Raises:
        ValueError: if the file is missing, broken, lacks a key, or its arrays do not fit together.
    """
    path = existing(Path(path), EXPECTED)
    with reading(path, EXPECTED), path.open("rb") as file, np.load(file, allow_pickle=False) as content:
        arrays = {key: content[key] for key in KEYS}
    for key in ("train_targets", "test_targets"):
        kind = arrays[key].dtype.kind, arrays[key].ndim
        intact(path, kind in (("i", 1), ("u", 1)), f"whole numbers of shape (N,) in {key}", _signature(arrays[key]))
    classes = int(max(arrays["train_targets"].max(initial=0), arrays["test_targets"].max(initial=0))) + 1
    train, test = (_pair(path, arrays, split, classes) for split in ("train", "test"))
    sizes = train[0].shape[1:], test[0].shape[1:]
    intact(path, sizes[0] == sizes[1], "of one image size", f"{sizes[0]} in train and {sizes[1]} in test")
    return standardised(train, test, classes).with_label_noise(label_noise, seed)


def _pair(path: Path, arrays: dict[str, np.ndarray], split: str, classes: int) -> Labelled:
    key = f"{split}_inputs"
    inputs = arrays[key]
    expected = f"real numbers of shape (N, channels, height, width) or (N, height, width) in {key}"
    intact(path, inputs.dtype.kind in "fiub" and inputs.ndim in (3, 4), expected, _signature(inputs))
    intact(path, bool(np.isfinite(inputs).all()), f"finite numbers in {key}", "NaN or infinity")
    return labelled(path, inputs if inputs.ndim == 4 else inputs[:, None], arrays[f"{split}_targets"], classes)


def _signature(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape}"
