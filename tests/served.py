"""Processes for tests, forked from one server that has loaded torch and what they run, once for the whole suite."""

import os
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkProcess
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import torch

TESTS = Path(__file__).parent
USERS = [path for path in sorted(TESTS.rglob("test_*.py")) if "from served import" in path.read_text()]
LOADED = ["pytest", *(".".join(("tests", *path.relative_to(TESTS).with_suffix("").parts)) for path in USERS)]


def served():
    """The context of these processes, its server running."""
    context = get_context("forkserver")
    context.set_forkserver_preload(LOADED)  # heard by a server that is not running yet
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        forkserver.ensure_running()
    return context


def of_ranks(process, folder, count):
    """What so many processes have saved, each under its rank, in `folder`, which `process(rank, folder)` is told."""
    served()
    torch.multiprocessing.start_processes(process, (str(folder),), nprocs=count, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt") for rank in range(count)]


def of_two_ranks(process, folder):
    return of_ranks(process, folder, 2)


def killed(target: Callable[..., Any], *args: Any, moment: Callable[[], bool], after: float = 0.0) -> int:
    """Run it in a process that is killed `after` seconds from the moment; the session of all processes it had."""
    process = served().Process(target=_leading, args=(target, *args))
    process.start()
    while not moment() and process.is_alive():
        sleep(0.0005)
    sleep(after)
    process.kill()
    process.join()
    assert process.exitcode == -9, f"ended before it was killed, with {process.exitcode}"
    return process.pid


def all_ended(sessions: Iterable[int], limit: float = 10.0) -> bool:
    """Whether no process of these sessions is left within so many seconds; an ended one may wait to be noted."""
    end, sessions = monotonic() + limit, set(sessions)
    while (left := _running(sessions)) and monotonic() < end:
        sleep(0.02)
    return not left


def together(target: Callable[[Any], Any], pieces: Iterable[Any]) -> list[list[Any]]:
    """What two processes give that call it with the same piece at the same moment, an error as text; for each piece."""
    context, pieces = served(), list(pieces)
    start, told = context.Barrier(2), context.Queue()
    jobs = [context.Process(target=_in_step, args=(target, pieces, start, told)) for _ in range(2)]
    for process in jobs:
        process.start()
    found = [told.get(timeout=60) for _ in range(2 * len(pieces))]
    for process in jobs:
        process.join()
    return [[result for index, result in found if index == number] for number in range(len(pieces))]


def _leading(target: Callable[..., Any], *args: Any) -> None:
    """The leader of a session of its own, whose workers are forked from it: so they need not load torch."""
    os.setsid()
    torch.set_num_threads(1)
    pool = import_module("landscape.processes.pool")
    pool.SpawnProcess, pool._Spawn._name = ForkProcess, "fork"
    target(*args)


def _in_step(target: Callable[[Any], Any], pieces: list[Any], start: Any, told: Any) -> None:
    torch.set_num_threads(1)
    for number, piece in enumerate(pieces):
        start.wait()
        try:
            told.put((number, target(piece)))
        except Exception as error:
            told.put((number, f"{type(error).__name__}: {error}"))


def _running(sessions: set[int]) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        if int(fields[3]) in sessions and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found
