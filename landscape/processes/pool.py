"""Pieces of work shared by processes of this machine, or by any executor of `concurrent.futures`.

Processes are spawned, not forked: a fork of a process with threads or a device may hang. Each is sent the function
once, with the network and data that it holds, and ends when its parent does, however that comes about: a thread of it
waits for the parent's end. Ctrl-C is the parent's to handle.
"""

import os
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from queue import SimpleQueue
from threading import Thread
from typing import Any

import torch

from landscape.checks import first_line

Pool = Callable[[Iterable[Any]], Iterator[tuple[Any, Any]]]  # pieces to (piece, result), as they come
Answer = tuple[Any, str | None]  # the result, and what went wrong
UNSENDABLE = (pickle.PicklingError, AttributeError, TypeError)


class WorkerError(RuntimeError):
    """A worker that failed or was killed; the others' results have been handed over by then."""


@contextmanager
def pool(
    function: Callable[[Any], Any], workers: int | Executor = 1, *, threads: int = 0, unit: str = "piece"
) -> Iterator[Pool]:
    """Worker processes that call `function`; they end with the block.

    Args:
        function: piece to result, of a module, or a `partial` or object of one.
        workers: processes; 1 is this process. Or an executor of `concurrent.futures`, which is left running and is
            sent the function with each piece.
        threads: torch's, in each process; 0 for its share of those that this process has.
        unit: what a piece is called where one failed.
    Returns:
        Function of pieces to their results. It raises WorkerError, in one line, if a worker fails or is killed; what
        `function` raises in this process comes through.
    Raises:
        ValueError: if the function cannot be sent to another process.
    """
    if isinstance(workers, Executor):
        yield partial(_results, workers, partial(_answer, function), unit, _cancel, str)
    elif workers > 1:
        with _processes(function, workers, threads or max(1, torch.get_num_threads() // workers), unit) as results:
            yield results
    else:
        before = torch.get_num_threads()
        torch.set_num_threads(threads or before)
        try:
            yield lambda pieces: ((piece, function(piece)) for piece in pieces)
        finally:
            torch.set_num_threads(before)


@contextmanager
def _processes(function: Callable[[Any], Any], workers: int, threads: int, unit: str) -> Iterator[Pool]:
    context = _Spawn()
    try:
        payload = pickle.dumps(function)
    except UNSENDABLE as error:
        raise _unsendable(error) from error
    executor = ProcessPoolExecutor(workers, context, _begin, (payload, threads))

    def stop(_sent: Iterable[Future[Any]]) -> None:  # no future is cancelled from here: that could hang Python 3.11
        executor.shutdown(cancel_futures=True)

    def killed() -> str:
        executor.shutdown()
        return context.killed()

    try:
        yield partial(_results, executor, partial(_answer, _received_function), unit, stop, killed)
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


def _results(
    executor: Executor,
    call: Callable[[Any], Answer],
    unit: str,
    stop: Callable[[Iterable[Future[Any]]], None],
    killed: Callable[[], str],
    pieces: Iterable[Any],
) -> Iterator[tuple[Any, Any]]:
    """Piece and result as they come; after a failure nothing is begun, and what is in hand is waited for."""
    done: SimpleQueue[Future[Answer]] = SimpleQueue()
    failures: list[str] = []
    try:
        sent = {executor.submit(call, piece): piece for piece in pieces}
        for future in sent:
            future.add_done_callback(done.put)
        for _ in sent:
            future = done.get()
            result, failure = (None, "cancelled") if future.cancelled() else future.result()
            if failure is None:
                yield sent[future], result
                continue
            failures.append(f"a worker failed at {unit} {sent[future]}: {failure}")
            if len(failures) == 1:
                stop(sent)
    except BrokenExecutor as error:  # by now all that was finished has been handed over
        raise WorkerError(killed() or "a worker of the executor was killed") from error
    except UNSENDABLE as error:
        raise _unsendable(error) from error
    if failures:
        raise WorkerError(failures[0])


def _cancel(sent: Iterable[Future[Any]]) -> None:
    for future in sent:
        future.cancel()


def _unsendable(error: Exception) -> ValueError:
    return ValueError(
        f"workers= sends model, criterion, accuracy and data to other processes, which failed: "
        f"{first_line(error)}; use functions of a module, no lambda"
    )


_received: list[Any] = []  # in a worker: the function, as bytes until it is first called


def _begin(payload: bytes, threads: int) -> None:
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


def _answer(function: Callable[[Any], Any], piece: Any) -> Answer:
    """The failure as text: an exception may not survive the way to another process."""
    try:
        return function(piece), None
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"
