"""What took long is computed once: arrays kept beside the settings that they follow from."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape.whole_files import replacing


def finished(stem: Path, config: Any, compute: Callable[[Any], dict[str, Tensor]]) -> dict[str, Tensor]:
    """`compute(config)`, or what it gave in an earlier run with the same settings.

    Args:
        stem: the arrays are kept in STEM.npz.
        config: a frozen dataclass; where its results are written to (`folder`) does not matter.
        compute: from the settings to named tensors.
    """
    target = stem.with_name(f"{stem.name}.npz")
    settings = json.dumps({**asdict(config), "folder": None})
    if target.exists():
        with np.load(target) as arrays:
            if str(arrays["settings"]) == settings:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files if name != "settings"}
    found = compute(config)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as partial:
        np.savez_compressed(partial, settings=settings, **{name: own.numpy() for name, own in found.items()})  # type: ignore[arg-type]
    return found
