"""Arrays that a script has computed before, for the same config, are read and not computed again."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.storage.manifest import read_manifest, whole, write_with_manifest
from landscape.storage.results import versions
from landscape.storage.settings import as_json, differing

Arrays = dict[str, NDArray[Any]]


def kept(path: Path, config: Any, compute: Callable[[], Arrays]) -> Arrays:
    """The arrays of PATH.npz if PATH.json beside it holds this config; else those of `compute`, saved there.

    Args:
        path: without a suffix; what a name there ends in is kept, as in lr0.1.
        config: a dataclass that decides the arrays.
        compute: gives the arrays by name.
    """
    settings, data = as_json(asdict(config)), path.with_name(f"{path.name}.npz")
    if whole(data) and not differing(read_manifest(data).get("config", {}), settings):
        with np.load(data, allow_pickle=False) as arrays:
            return dict(arrays)
    found = compute()
    write = partial(np.savez_compressed, **found)  # type: ignore[arg-type]
    write_with_manifest(data, write, {"config": settings, "versions": versions()})
    return found


def kept_tensors(path: Path, config: Any, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The same for tensors."""
    found = kept(path, config, lambda: {name: own.numpy() for name, own in compute().items()})
    return {name: torch.from_numpy(own) for name, own in found.items()}
