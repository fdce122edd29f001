"""Freed memory kept by the process rather than given back and asked for anew at every step.

glibc returns the end of its heap to the system when more is free there than twice the largest block that was ever
unmapped, at first some hundred kilobytes. A product then takes thousands of page faults, 10 to 15 % of its time on the
digits network. One block just below glibc's limit of 32 MiB, given back untouched, raises that threshold to 64 MiB.
Source: mallopt(3), M_MMAP_THRESHOLD, on the dynamic threshold.
"""

from functools import cache

import torch

BLOCK = 31 * 2**20  # bytes


@cache
def keep_freed_memory() -> None:
    """Let the process keep up to 64 MiB that it has freed; without effect under other allocators."""
    torch.empty(BLOCK, dtype=torch.uint8, device="cpu")
