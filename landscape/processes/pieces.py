"""Pieces of work in the hands of an executor of `concurrent.futures`: results as they come, failures in one line."""

import pickle
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import torch

from landscape.checks import first_line

Pool = Callable[[Iterable[Any]], Iterator[tuple[Any, Any]]]  # pieces to (piece, result), as they come
Answer = tuple[Any, str | None]  # the result, and what went wrong
UNSENDABLE = (pickle.PicklingError, AttributeError, TypeError)


class WorkerError(RuntimeError):
    """A worker that failed or was killed; the others' results have been handed over by then."""


def results(
    submit: Callable[[Any], Future[Answer]],
    unit: str,
    stop: Callable[[], None],
    killed: Callable[[], str],
    pieces: Iterable[Any],
) -> Iterator[tuple[Any, Any]]:
    """Piece and result as they come; after a failure nothing is begun, and what is in hand is waited for.

    Args:
        submit: piece to its future answer.
        unit: what a piece is called where one failed.
        stop: keeps what was not begun from beginning.
        killed: what is said where a worker was killed.
        pieces: of work.
    Raises:
        WorkerError: if a worker fails or is killed.
        ValueError: if something cannot be sent to a worker.
    """
    done: SimpleQueue[Future[Answer]] = SimpleQueue()
    failures: list[str] = []
    try:
        sent = {submit(piece): piece for piece in pieces}
        for future in sent:
            future.add_done_callback(done.put)
        for _ in sent:
            future = done.get()
            result, failure = _outcome(future)
            if failure is None:
                yield sent[future], result
                continue
            failures.append(f"a worker failed at {unit} {sent[future]}: {failure}")
            if len(failures) == 1:
                stop()
    except BrokenExecutor as error:  # by now all that was finished has been handed over
        raise WorkerError(killed()) from error
    except UNSENDABLE as error:
        raise unsendable(error) from error
    if failures:
        raise WorkerError(failures[0])


def answer(function: Callable[[Any], Any], piece: Any) -> Answer:
    """The failure as text: an exception may not survive the way to another process."""
    try:
        return function(piece), None
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


@contextmanager
def with_threads(count: int) -> Iterator[None]:
    """So many of torch's threads, for 0 as many as there are; those of before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def unsendable(error: Exception) -> ValueError:
    """One line for what cannot be pickled."""
    return ValueError(
        f"workers= sends model, criterion, accuracy and data to other processes, which failed: "
        f"{first_line(error)}; use functions of a module, no lambda"
    )


def _outcome(future: Future[Answer]) -> Answer:
    """What `answer` gave; else the executor's own failure: a worker without the package, lost once too often."""
    if future.cancelled():
        return None, "the executor has cancelled it, or lost its scheduler"
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, (BrokenExecutor, *UNSENDABLE)):
        raise error
    return None, f"{type(error).__name__}: {first_line(error)}"
