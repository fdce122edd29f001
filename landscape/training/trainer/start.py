"""The weights that a training begins with: those of another one, all or all but the head."""

from pathlib import Path

from torch import nn

from landscape.checks import require
from landscape.storage.weights import read_weights

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
    own, found = model.state_dict(), read_weights(path, "start_from")
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
