"""The weights that a training begins with: those of another one, all or all but the head."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from landscape.checks import first_line, require
from landscape.training.trainer.checkpoint import NAME

LEAST = 0.5  # share of the network's entries that must come from the file


def start_from(model: nn.Module, path: str | Path) -> list[str]:
    """Put the weights of a file into the model where name and shape agree.

    Args:
        model: the network.
        path: a run folder, a .safetensors file, or what torch.save wrote: a state dict, alone or as the entry "model",
            "state_dict" or "model_state_dict".
    Returns:
        Names of the model's tensors that keep their fresh values: a new head.
    Raises:
        ValueError: if the file cannot be read, or has less than half of the model's entries.
    """
    own, found = model.state_dict(), _weights(Path(path))
    for wrapper in ("module.", "_orig_mod."):  # of DistributedDataParallel, an average, torch.compile
        found = {name.removeprefix(wrapper): value for name, value in found.items()}
    fits = {name: value for name, value in found.items() if name in own and own[name].shape == value.shape}
    fresh = [name for name in own if name not in fits]
    total = sum(value.numel() for value in own.values())
    share = sum(own[name].numel() for name in fits) / max(total, 1)
    require(
        share >= LEAST,
        f"start_from must be of a network like this one, got {path} with {len(fits)} of {len(own)} tensors by name and "
        f"shape ({share:.0%} of the entries); missing {', '.join(fresh[:3])}",
    )
    model.load_state_dict({**own, **fits})
    return fresh


def _weights(path: Path) -> dict[str, Tensor]:
    source = path / NAME if path.is_dir() else path
    require(source.is_file(), f"start_from must be a run folder or a file of weights, found no file {source}")
    try:
        if source.suffix == ".safetensors":
            return load_file(source)
        content: Any = torch.load(source, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{source} must be a complete file of weights: {first_line(error)}") from error
    except UnpicklingError as error:
        raise ValueError(f"{source} must hold tensors and plain values alone; save model.state_dict()") from error
    except Exception as error:  # whatever else reading says
        raise ValueError(f"{source} must be a state dict that torch.load reads: {first_line(error)}") from error
    for name in ("model", "state_dict", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    tensors = isinstance(content, dict) and content and all(isinstance(value, Tensor) for value in content.values())
    require(bool(tensors), f"{source} must hold a state dict, names and tensors, got {type(content).__name__}")
    return dict(content)
