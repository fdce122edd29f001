"""Readers of data sets from local files and packages; none touches the network, none runs a pickle."""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from landscape.checks import one_of, require
from landscape.data.augment import Augmentation
from landscape.data.cifar import cifar10, cifar100
from landscape.data.digits import digits
from landscape.data.huggingface import huggingface, lazy_huggingface
from landscape.data.idx import mnist
from landscape.data.image_folder import image_folder, lazy_image_folder
from landscape.data.images import Images
from landscape.data.lazy import Lazy
from landscape.data.npz import npz
from landscape.data.own import own_data
from landscape.data.svhn import svhn
from landscape.data.text import made_text, text

# name -> reader, called with (path, label_noise=, seed=); one that takes no path is embedded
DATASETS: dict[str, Callable[..., Images]] = {
    "digits": digits,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "mnist": mnist,
    "fashion_mnist": mnist,  # the same files' names and format
    "svhn": svhn,
    "npz": npz,
    "folder": image_folder,
    "huggingface": huggingface,
    "text": text,
    "made_text": made_text,
}
LAZY: dict[str, Callable[..., Lazy]] = {"folder": lazy_image_folder, "huggingface": lazy_huggingface}
EMBEDDED = tuple(name for name, reader in DATASETS.items() if next(iter(signature(reader).parameters)) == "label_noise")

__all__ = [
    "DATASETS",
    "Augmentation",
    "Images",
    "Lazy",
    "check_lazy",
    "check_settings",
    "check_source",
    "cifar10",
    "cifar100",
    "digits",
    "huggingface",
    "image_folder",
    "load",
    "made_text",
    "mnist",
    "npz",
    "svhn",
    "text",
]


def load(
    name: str,
    path: str = "",
    *,
    label_noise: float = 0.0,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    lazily: bool = False,
) -> Images | Lazy:
    """The data set DATASETS[name], or what the function FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION gives.

    Args:
        name: of the data set.
        path: folder of its files ("npz": the file); empty for one of EMBEDDED; for a function what it is called with.
        label_noise: fraction of training labels moved to another class, in [0, 1].
        seed: of the label noise.
        settings: the reader's or the function's other arguments.
        lazily: whether to read samples as they are used, and never hold them all; a function's streams always are.
    Raises:
        ValueError: if the name or a setting is unknown, or a file is missing or broken.
    """
    check_source(name, path)
    settings = settings or {}
    if ":" in name:
        return own_data(name, path, settings, lazily).with_label_noise(label_noise, seed)
    check_settings(name, settings)
    if lazily:
        check_lazy(name)
        return LAZY[name](path, label_noise=label_noise, seed=seed, **settings)
    where = [path] if path else []
    return DATASETS[name](*where, label_noise=label_noise, seed=seed, **settings)


def check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Raise ValueError unless the reader has arguments of these names."""
    own = list(signature(DATASETS[name]).parameters)
    taken = own[own.index("seed") + 1 :]
    unknown = ", ".join(sorted(settings.keys() - set(taken)))
    listed = ", ".join(taken) or "nothing"
    require(not unknown, f"data_settings of {name!r} must be among {listed}, got {unknown}")


def check_lazy(name: str) -> None:
    """Raise ValueError unless the data set can be read as it is used."""
    can = ":" in name or name in LAZY
    require(can, f"lazy and workers belong to {', '.join(LAZY)} and functions; {name!r} is read into memory, without")


def check_source(name: str, path: str) -> None:
    """Raise ValueError unless the data set is known and has a path where it needs one. Reads nothing."""
    if ":" in name:
        return
    one_of("dataset", name, DATASETS)
    if name in EMBEDDED:
        require(not path, f"data_path must be empty for {name!r}, which is embedded, got {path!r}")
    else:
        require(bool(path), f"data_path must say where the files of {name!r} are, got none; give their folder")
