"""Pieces of work for an executor that somebody else has made and keeps: processes, threads, Dask, MPI.

Its workers may be on other machines. The function goes to each of them with the network and data that it holds, and is
unpickled once there, however many pieces follow; a Dask cluster keeps it, and makes it anew where it was lost.
"""

import pickle
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any
from uuid import uuid4

from landscape.processes.pieces import Answer, Pool, answer, results, with_threads


@contextmanager
def borrowed(function: Callable[[Any], Any], executor: Executor, threads: int, unit: str) -> Iterator[Pool]:
    """The executor's workers call `function`; it is left running, and what it has not begun is taken back.

    Args, raises: as `pool` has them; 0 threads are as many as a worker has.
    """
    sent: list[Future[Answer]] = []
    shipped, numbers = Shipped(function, threads), count()
    held: list[Any] = []

    def submit(piece: Any) -> Future[Answer]:
        if not held:
            held.append(_kept_by_dask(executor, shipped))
        sent.append(executor.submit(_call, held[0], next(numbers), piece))
        return sent[-1]

    def stop() -> None:
        for future in sent:
            future.cancel()

    try:
        yield partial(results, submit, unit, stop, lambda: "a worker of the executor was killed")
    except BaseException:
        stop()
        raise


class Shipped:
    """A function that is pickled once, and unpickled once in each process it reaches, where it has so many threads."""

    def __init__(self, function: Callable[[Any], Any], threads: int) -> None:
        self.function, self.threads = function, threads
        self.arrived = False  # in another process: the threads of this one are its own
        self._sent: tuple[str, bytes] | None = None

    def __call__(self, piece: Any) -> Any:
        if not (self.arrived and self.threads):
            return self.function(piece)
        with with_threads(self.threads):
            return self.function(piece)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._sent is None:  # what a notebook defines goes along where Dask has loaded cloudpickle
            self._sent = uuid4().hex, sys.modules.get("cloudpickle", pickle).dumps(self.function)
        return _unpacked, (*self._sent, self.threads)


_received: dict[str, Shipped] = {}  # in a worker: the function that came last


def _unpacked(name: str, payload: bytes, threads: int) -> Shipped:
    found = _received.get(name)
    if found is None:
        found = Shipped(pickle.loads(payload), threads)
        found.arrived, found._sent = True, (name, payload)
        _received.clear()
        _received[name] = found
    return found


def _call(function: Shipped, _number: int, piece: Any) -> Answer:
    """The number makes no two calls alike, for whose result Dask would give what it has."""
    return answer(function, piece)


def _kept_by_dask(executor: Executor, shipped: Shipped) -> Any:
    """In place of the function a future of it, so that it does not travel with every piece; others get it as it is."""
    client: Any = getattr(executor, "_client", None)
    if not hasattr(client, "scheduler_info"):
        return shipped
    import dask

    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):  # it goes there this once
        return client.submit(_itself, shipped, pure=False)


def _itself(shipped: Shipped) -> Shipped:
    return shipped
