"""Weights of other people's files put into a network: all of them, by name, or an error that says what is wrong.

A file is .safetensors, or what torch.save wrote (.pt, .pth, .bin, Lightning's .ckpt): a state dict, alone or an entry;
or it is a folder of Hugging Face's. Nothing is unpickled but tensors and plain values.
"""

import json
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from landscape.checks import first_line, require

ENTRIES = ("model", "state_dict", "model_state_dict")  # under which a training's file has its state dict
FOLDER = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")  # what Hugging Face writes
INDEX = ".index.json"


def load_weights(model: nn.Module, path: str | Path) -> nn.Module:
    """Put the weights of a file into the model, in the model's precision, and set it to eval mode.

    A prefix that all of the model's names have in the file ("model." of a Lightning module, "module.", "_orig_mod.") is
    taken off; what lies beside it there (a metric's state) is left out. A tied weight may stand once.

    Args:
        model: built as it was trained.
        path: the file, or a folder with one of FOLDER.
    Returns:
        The model.
    Raises:
        ValueError: if the file cannot be read, or a name or shape differs.
    """
    found, own = read_weights(path, "weights"), model.state_dict()
    prefix = _prefix(found, own)
    found = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
    missing = [name for name in own if name not in found and not _tied(name, own, found)]
    extra = [] if prefix else [name for name in found if name not in own]
    require(
        not missing and not extra,
        f"weights {path} must be those of the model: missing {_few(missing)}, unexpected {_few(extra)}; build the "
        "model as it was trained",
    )
    shapes = [name for name, value in own.items() if name in found and found[name].shape != value.shape]
    told = [f"{name} is {tuple(found[name].shape)}, expected {tuple(own[name].shape)}" for name in shapes[:3]]
    require(not shapes, f"weights {path} must be those of the model: {'; '.join(told)}")
    model.load_state_dict({name: found[name] for name in own if name in found}, strict=False)
    return model.eval()


def read_weights(path: str | Path, name: str) -> dict[str, Tensor]:
    """The state dict that a file or a folder of Hugging Face's holds, on the CPU.

    Args:
        path: see `load_weights`.
        name: what the file was given as, for messages.
    Raises:
        ValueError: if there is no such file, or it holds something else.
    """
    source = _file(Path(path))
    require(source.is_file(), f"{name} must be a run folder or a file of weights, found no file {source}")
    try:
        if source.name.endswith(INDEX):
            return _shards(source)
        if source.suffix == ".safetensors":
            return load_file(source)
        content: Any = torch.load(source, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{source} must be a complete file of weights: {first_line(error)}") from error
    except UnpicklingError as error:
        raise ValueError(
            f"{source} must hold tensors and plain values alone; where you trust it, load it by torch.load(..., "
            "weights_only=False) and save its state_dict"
        ) from error
    except Exception as error:  # whatever else reading says
        raise ValueError(f"{source} must be a state dict that torch.load reads: {first_line(error)}") from error
    for entry in ENTRIES:
        if isinstance(content, dict) and isinstance(content.get(entry), dict):
            content = content[entry]
    tensors = isinstance(content, dict) and content and all(isinstance(value, Tensor) for value in content.values())
    require(bool(tensors), f"{source} must hold a state dict, names and tensors, got {type(content).__name__}")
    return dict(content)


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    return next((path / name for name in FOLDER if (path / name).is_file()), path / FOLDER[0])


def _shards(index: Path) -> dict[str, Tensor]:
    """Of a folder whose weights lie in several files, which its index names."""
    files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    return {name: value for file in files for name, value in load_file(index.parent / Path(file).name).items()}


def _prefix(found: dict[str, Tensor], own: dict[str, Tensor]) -> str:
    """What stands before the model's names in the file; "" where it is nothing, or not the same before each."""
    first = next((name for name in own if any(key.endswith(name) for key in found)), "")
    ends = sorted((key.removesuffix(first) for key in found if first and key.endswith(first)), key=len)
    share = {end: sum(end + name in found for name in own) for end in ends if end == "" or end.endswith(".")}
    best = [end for end, count in share.items() if count == max(share.values())]
    require(
        len(best) < 2 or "" in best,
        f"weights must be of one such network, got those under {_few(best)}; save the state_dict of one",
    )
    return best[0] if best else ""


def _tied(name: str, own: dict[str, Tensor], found: dict[str, Tensor]) -> bool:
    """Whether the tensor is, in the model, one that the file has under another name."""
    place = own[name].data_ptr()
    return place != 0 and any(own[other].data_ptr() == place and other in found for other in own if other != name)


def _few(names: list[str]) -> str:
    return (", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")) or "nothing"
