"""Processes for tests, forked from one server that has loaded torch, and what they run, once for the whole suite."""

import os
import sys
from multiprocessing import forkserver, get_context

import pytest

LOADED = ["test_distributed", "test_sigkill", "test_step_ranks", "test_train_sigkill", "pytest"]


def served():
    """The context of these processes, its server running."""
    context = get_context("forkserver")
    context.set_forkserver_preload(LOADED)  # heard by a server that is not running yet
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()
    return context
