"""Arrays that a script has computed before, for the same config, are read and not computed again."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape.storage.atomic import replacing
from landscape.storage.results import read_json, versions, write_json

Arrays = dict[str, NDArray[Any]]


def kept(path: Path, config: Any, compute: Callable[[], Arrays]) -> Arrays:
    """The arrays of PATH.npz if PATH.json beside it holds this config; else those of `compute`, saved there.

    Args:
        path: without a suffix; what a name there ends in is kept, as in lr0.1.
        config: a dataclass that decides the arrays.
        compute: gives the arrays by name.
    """
    settings = json.loads(json.dumps(asdict(config)))
    data, manifest = (path.with_name(path.name + suffix) for suffix in (".npz", ".json"))
    if data.exists() and manifest.exists() and read_json(manifest).get("config") == settings:
        with np.load(data, allow_pickle=False) as arrays:
            return dict(arrays)
    found = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(data) as partial:
        np.savez_compressed(partial, **found)  # type: ignore[arg-type]
    write_json(manifest, {"config": settings, "versions": versions()})
    return found


def kept_tensors(path: Path, config: Any, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The same for tensors."""
    found = kept(path, config, lambda: {name: own.numpy() for name, own in compute().items()})
    return {name: torch.from_numpy(own) for name, own in found.items()}
