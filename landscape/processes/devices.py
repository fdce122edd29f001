"""GPUs dealt out to processes: each sees all of them, its own one first, so that "cuda" is another card in each."""

import os
from collections.abc import Sequence
from itertools import takewhile

import torch

VISIBLE = "CUDA_VISIBLE_DEVICES"  # read when a process first uses CUDA


def visible_devices() -> list[str]:
    """The GPUs that this process may use, as the variable names them; none without CUDA."""
    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get(VISIBLE, ",".join(map(str, range(count)))).split(",")]
    return list(takewhile(lambda name: name not in ("", "-1"), named)) if count else []  # CUDA stops there too


def dealt(devices: Sequence[str], rank: int) -> str:
    """The variable for the process of that rank."""
    first = rank % len(devices)
    return ",".join([*devices[first:], *devices[:first]])
