"""What all results share: each saves itself as arrays (npz) beside a readable manifest (JSON), loads without pickle."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from landscape.storage.atomic import replacing

R = TypeVar("R", bound="Result")


@dataclass(frozen=True, eq=False)
class Result:
    """Base of all results: `save` and `load`."""

    def save(self, path: str | Path, **manifest: Any) -> Path:
        """Write PATH.npz (arrays) and PATH.json (what, versions, plain fields, and `manifest`), each in one rename.

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
        json.dumps(content)  # what JSON cannot hold is complained of before anything is written
        target = _npz(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as partial:
            np.savez(partial, **arrays)  # type: ignore[arg-type]
        write_json(target.with_suffix(".json"), content)
        return target

    @classmethod
    def load(cls: type[R], path: str | Path) -> R:
        """Read what `save` wrote. Raises ValueError if the files are missing, truncated or of another kind."""
        source = _npz(path)
        manifest = read_json(source.with_suffix(".json"))
        if manifest.get("what") != cls.__name__:
            raise ValueError(f"{source} must hold a {cls.__name__}, got {manifest.get('what')!r}")
        try:
            values = dict(manifest["fields"])
            with source.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                for key in arrays.files:
                    name, _, entry = key.partition("/")
                    tensor = torch.from_numpy(arrays[key])
                    if entry:
                        values.setdefault(name, {})[entry] = tensor
                    else:
                        values[name] = tensor
            return cls(**values)
        except (OSError, ValueError, EOFError, TypeError, KeyError, BadZipFile) as error:
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


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object in one rename."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises ValueError in one line if the file is missing or is none."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} must be a readable JSON file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content


def _npz(path: str | Path) -> Path:
    """PATH.npz; a dot in the name, as in lr0.1, is no suffix."""
    path = Path(path)
    return path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")


def _to_numpy(tensor: Tensor) -> np.ndarray[Any, np.dtype[Any]]:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
