"""Full float32 for the length of a block: TensorFloat-32 keeps 10 bits, too few for what is left of a cancellation.

And the setting of torch.autocast, for a block that shall have it once more.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch


class Autocast(NamedTuple):
    """torch.autocast of a type of device, such as "cpu"; when called, for a block."""

    device: str
    dtype: torch.dtype
    enabled: bool

    def __call__(self) -> torch.autocast:
        return torch.autocast(*self)


def autocast_now(device: str) -> Autocast:
    """As it is set here."""
    return Autocast(device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))


@contextmanager
def full_precision(tf32: bool = False) -> Iterator[None]:
    """Matrix products and convolutions in the precision of their inputs; settings put back as found.

    Args:
        tf32: leave the user's settings alone.
    """
    settings = [] if tf32 else _settings()
    found = [getattr(owner, name) for owner, name, _ in settings]
    try:
        for owner, name, full in settings:
            setattr(owner, name, full)
        yield
    finally:
        for (owner, name, _), value in zip(settings, found, strict=True):
            setattr(owner, name, value)


def _settings() -> list[tuple[Any, str, object]]:
    """Owner, name and full-precision value of torch's switches; since torch 2.9 there is one an operation."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(cudnn, "conv"):
        return [(owner, "fp32_precision", "ieee") for owner in (cuda, cudnn.conv, cudnn.rnn)]
    return [(cuda, "allow_tf32", False), (cudnn, "allow_tf32", False)]
