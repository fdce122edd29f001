"""Processes for tests, forked from one server that has loaded torch, and what they run, once for the whole suite."""

import os
import sys
from multiprocessing import forkserver, get_context
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parent
LOADED = [  # by the names that pytest gives them; a name that is none is passed over without a word
    ".".join(path.relative_to(TESTS.parent).with_suffix("").parts)
    for path in sorted(TESTS.rglob("test_*.py"))
    if "from served import" in path.read_text()
]


def served():
    """The context of these processes, its server running."""
    context = get_context("forkserver")
    context.set_forkserver_preload([*LOADED, "pytest"])  # heard by a server that is not running yet
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()
    return context


def of_two_ranks(process, folder):
    """What two processes have saved, each under its rank, in `folder`, which `process(rank, folder)` is told."""
    served()
    torch.multiprocessing.start_processes(process, (str(folder),), nprocs=2, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]
