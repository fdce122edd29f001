"""Memory: what is free, and freed memory kept by the process rather than given back and asked for anew at every step.

glibc returns the end of its heap to the system when more is free there than twice the largest block that was ever
unmapped, at first some hundred kilobytes. A product then takes thousands of page faults, 10 to 15 % of its time on the
digits network. One block just below glibc's limit of 32 MiB, given back untouched, raises that threshold to 64 MiB.

It also lets blocks of up to 32 MiB into the heap, where the large ones of a large network (logits) leave holes that
small tensors keep open. There blocks from 16 MiB stay outside: a product of GPT-2 then holds 3.17 GB at most in place
of 3.35 to 3.8, for 3 % of its time.
Source: mallopt(3), M_MMAP_THRESHOLD, on the dynamic threshold.
"""

import ctypes
import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

BLOCK = 31 * 2**20  # bytes
LARGE = 2**25  # parameters
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
UNKNOWN = 4 * 2**30  # bytes, where the system does not tell


def keep_freed_memory(parameters: int = 0) -> None:
    """Let the process keep up to 64 MiB that it has freed; without effect under other allocators.

    `parameters`: of the network at work.
    """
    _keep(parameters >= LARGE)


@cache
def _keep(large: bool) -> None:
    if large:
        _glibc("mallopt")(M_TRIM_THRESHOLD, 2**26)
        _glibc("mallopt")(M_MMAP_THRESHOLD, 2**24)
    else:
        torch.empty(BLOCK, dtype=torch.uint8, device="cpu")


def give_back_freed_memory() -> None:
    """Return to the system what has been freed inside the heap as well; without effect under other allocators."""
    _glibc("malloc_trim")(0)


@cache
def _glibc(name: str) -> Callable[..., int]:
    if platform.libc_ver()[0] != "glibc":
        return lambda *_: 0
    function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    return function


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a device: of a GPU with what torch holds in reserve, of a CPU within the group's limit."""
    if device.type == "cuda":
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + reserve
    limits = [_available(), _number("/sys/fs/cgroup/memory.max") - _number("/sys/fs/cgroup/memory.current")]
    known = [limit for limit in limits if limit > 0]
    return min(known) if known else UNKNOWN


def _available() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), 0)


def _number(path: str) -> int:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):  # no such group, or no limit
        return 0
