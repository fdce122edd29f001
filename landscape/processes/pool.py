"""Pieces of work shared by processes of this machine, or by any executor of `concurrent.futures`.

Processes are spawned, not forked: a fork of a process with threads or a device may hang. Each is sent the function
once, with the network and data that it holds, and ends when its parent does, however that comes about: a thread of it
waits for the parent's end. Ctrl-C is the parent's to handle. GPUs are dealt out: each process has its own one first.
"""

import os
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from threading import Thread
from typing import Any

import torch

from landscape.processes.borrowed import borrowed
from landscape.processes.devices import VISIBLE, dealt
from landscape.processes.pieces import UNSENDABLE, Answer, Pool, answer, results, unsendable, with_threads


@contextmanager
def pool(
    function: Callable[[Any], Any],
    workers: int | Executor = 1,
    *,
    threads: int = 0,
    unit: str = "piece",
    devices: Sequence[str] = (),
) -> Iterator[Pool]:
    """Worker processes that call `function`; they end with the block.

    Args:
        function: piece to result, of a module, or a `partial` or object of one.
        workers: processes; 1 is this process. Or an executor of `concurrent.futures`, see `borrowed.py`.
        threads: torch's, in each process; 0 for its share of those that this process has, and for as many as an
            executor's worker has.
        unit: what a piece is called where one failed.
        devices: GPUs to be dealt out to the processes, see `visible_devices`; an executor's workers have their own.
    Returns:
        Function of pieces to their results. It raises WorkerError, in one line, if a worker fails or is killed; what
        `function` raises in this process comes through.
    Raises:
        ValueError: if the function cannot be sent to another process.
    """
    if isinstance(workers, Executor):
        with borrowed(function, workers, threads, unit) as found:
            yield found
    elif workers > 1:
        threads = threads or max(1, torch.get_num_threads() // workers)
        with _processes(function, workers, threads, unit, devices) as found:
            yield found
    else:
        with with_threads(threads):
            yield lambda pieces: ((piece, function(piece)) for piece in pieces)


@contextmanager
def _processes(
    function: Callable[[Any], Any], workers: int, threads: int, unit: str, devices: Sequence[str]
) -> Iterator[Pool]:
    context = _Spawn()
    try:
        payload = pickle.dumps(function)
    except UNSENDABLE as error:
        raise unsendable(error) from error
    places = context.SimpleQueue()
    for rank in range(workers):
        places.put(dealt(devices, rank) if len(devices) > 1 else None)
    executor = ProcessPoolExecutor(workers, context, _begin, (payload, threads, places))

    def submit(piece: Any) -> Future[Answer]:
        return executor.submit(answer, _received_function, piece)

    def stop() -> None:  # no future is cancelled from here: that could hang Python 3.11
        executor.shutdown(cancel_futures=True)

    def killed() -> str:
        executor.shutdown()
        return context.killed()

    try:
        yield partial(results, submit, unit, stop, killed)
    except BaseException:  # an interrupt does not wait for what is in hand
        for process in context.started:
            if process.is_alive():
                process.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


class _Spawn(SpawnContext):
    """Spawned processes, remembered, so that the one that was killed can be named."""

    def __init__(self) -> None:
        self.started: list[SpawnProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        self.started.append(SpawnProcess(*args, **kwargs))
        return self.started[-1]

    def killed(self) -> str:
        """Which process ended first, and how; the executor has ended the others by SIGTERM."""
        ended = [(process.exitcode, process.pid) for process in self.started if process.exitcode]
        code, pid = next((own for own in ended if own[0] != -signal.SIGTERM), ended[0])
        if code < 0:
            return f"worker process {pid} was killed by signal {-code}"
        return (
            f"worker process {pid} ended with exit code {code}; "
            "a script must call from under `if __name__ == '__main__':`"
        )


_received: list[Any] = []  # in a worker: the function, as bytes until it is first called


def _begin(payload: bytes, threads: int, places: Any) -> None:
    place = places.get()
    if place is not None:
        os.environ[VISIBLE] = place
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    _received[:] = [payload]
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _received_function(piece: Any) -> Any:
    if isinstance(_received[0], bytes):
        _received[0] = pickle.loads(_received[0])
    return _received[0](piece)
