"""A trained network on disk: weights and buffers as safetensors, what they are as JSON. Nothing is unpickled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from landscape.checks import require
from landscape.models import build
from landscape.storage.manifest import read_manifest, write_with_manifest

NAME = "model.safetensors"


def save_checkpoint(path: str | Path, model: nn.Module, metadata: Mapping[str, Any]) -> Path:
    """Write weights and buffers, then metadata and their checksum beside them, with .json; each in one rename.

    Args:
        path: a folder (the file is then model.safetensors), or a file that ends in .safetensors.
        model: as `landscape.models.build` made it; tied parameters are not supported.
        metadata: anything JSON can hold; "model" must be {"name": ..., "settings": {...}}, from which it is rebuilt.
    Returns:
        The path of the .safetensors file.
    Raises:
        ValueError: if the metadata does not say how to build the model.
    """
    _recipe(metadata, "metadata")
    weights = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    return write_with_manifest(_weights_file(path), lambda partial: save_file(weights, partial), metadata)


def load_checkpoint(path: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Rebuild a network and read its metadata.

    Nothing is unpickled; a network that is FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION is made by that code.

    Args:
        path: a run folder, or the .safetensors file.
    Returns:
        The network on the CPU, in eval mode and in the precision it was saved in, and the metadata.
    Raises:
        ValueError: if a file is missing, changed, cut or of another network than the metadata says.
    """
    source = _weights_file(path)
    require(source.is_file(), f"checkpoint must be a run folder or a .safetensors file, found no file {source}")
    metadata = read_manifest(source)
    name, settings = _recipe(metadata, str(source.with_suffix(".json")))
    try:
        weights = load_file(source)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{source} must be a complete safetensors file, got: {error}; copy or train it again"
        ) from error
    model = build(name, settings, seed=0).eval()
    difference = _difference(model.state_dict(), weights)
    require(not difference, f"{source} must hold the weights of {name} {settings}: {difference}")
    model.load_state_dict(weights, assign=True)  # assign keeps the precision of the file
    return model, metadata


def _weights_file(path: str | Path) -> Path:
    path = Path(path)
    return path if path.suffix == ".safetensors" else path / NAME


def _recipe(metadata: Mapping[str, Any], where: str) -> tuple[str, dict[str, Any]]:
    match metadata.get("model"):
        case {"name": str(name), "settings": dict(settings)}:
            return name, settings
        case other:
            raise ValueError(f'{where} must hold "model": {{"name": ..., "settings": {{...}}}}, got {other!r}')


def _difference(expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> str:
    """What distinguishes two state dicts, in a few words; empty if nothing does."""
    missing, extra = sorted(expected.keys() - got.keys()), sorted(got.keys() - expected.keys())
    if missing or extra:
        return f"missing {missing[:3]}, unexpected {extra[:3]}"
    shapes = [
        f"{name} is {tuple(got[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in expected
        if got[name].shape != expected[name].shape
    ]
    return "; ".join(shapes[:3])
