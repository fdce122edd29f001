"""What all results share: each saves itself as arrays (npz) beside a readable manifest (JSON), loads without pickle."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from landscape.storage.manifest import read_manifest, write_with_manifest
from landscape.storage.npz import read_arrays
from landscape.storage.results.shown import Drawn

R = TypeVar("R", bound="Result")


@dataclass(frozen=True, eq=False, repr=False)
class Result(Drawn):
    """Base of all results: `save` and `load`."""

    def save(self, path: str | Path, **manifest: Any) -> Path:
        """Write PATH.npz (arrays) and PATH.json (what, versions, checksum, plain fields, `manifest`), each in a rename.

        Args:
            path: where to, without a suffix or with .npz.
            manifest: what else the reader should know: seed, settings, wall time; anything JSON can hold.
        Returns:
            The path of the .npz file.
        """
        arrays, plain = {}, {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                arrays[item.name] = _to_numpy(value)
            elif isinstance(value, Mapping) and value and all(isinstance(v, Tensor) for v in value.values()):
                arrays |= {f"{item.name}/{key}": _to_numpy(v) for key, v in value.items()}
            else:
                plain[item.name] = value
        content = {"what": type(self).__name__, "versions": versions(), "fields": plain, **manifest}
        return write_with_manifest(_npz(path), partial(np.savez, **arrays), content)  # type: ignore[arg-type]

    @classmethod
    def load(cls: type[R], path: str | Path) -> R:
        """Read what `save` wrote. Raises ValueError if the files are missing, changed, cut or of another kind."""
        source = _npz(path)
        manifest = read_manifest(source)
        if manifest.get("what") != cls.__name__:
            raise ValueError(f"{source} must hold a {cls.__name__}, got {manifest.get('what')!r}")
        try:
            values = dict(manifest["fields"])
            for key, array in read_arrays(source).items():
                name, _, entry = key.partition("/")
                tensor = torch.from_numpy(array)
                if entry:
                    values.setdefault(name, {})[entry] = tensor
                else:
                    values[name] = tensor
            return cls(**values)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{source} is not a readable {cls.__name__}: {error}; compute and save it again"
            ) from error


def own_version() -> str:
    """This package's; a checkout that was never installed has none."""
    try:
        return version("landscape-toolkit")
    except PackageNotFoundError:
        return "unknown"


def versions() -> dict[str, str]:
    """Versions that a number may depend on."""
    return {
        "landscape": own_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _npz(path: str | Path) -> Path:
    """PATH.npz; a dot in the name, as in lr0.1, is no suffix."""
    path = Path(path)
    return path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")


def _to_numpy(tensor: Tensor) -> np.ndarray[Any, np.dtype[Any]]:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
