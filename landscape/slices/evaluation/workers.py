"""Points of a walk shared by processes of this machine.

Each has a copy of network and data and asks for the next point when it is done with one; this process alone writes.
They are spawned, not forked: a fork of a process with threads or a device may hang, and it would hold the other
workers' pipes, so that none would notice the end of its parent.
"""

import pickle
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch
from torch import Tensor

from landscape.slices.evaluation.evaluator import Points, SliceEvaluator


def by_workers(
    evaluator: SliceEvaluator, points: Points, todo: Sequence[int], workers: int
) -> Iterator[tuple[int, Tensor]]:
    """Index and values of the points `todo`, as they come.

    Raises:
        ValueError: if the network, criterion or data cannot be sent to another process.
        RuntimeError: if a worker fails or is killed; by then the others' points have been handed over.
    """
    queue, failures = iter(todo), []
    with _crew(_pickled(evaluator, points), workers) as crew:
        for worker in crew:
            worker.take(queue)
        while busy := {worker.pipe: worker for worker in crew if worker.index is not None}:
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                index, answer = worker.index, worker.answer()
                if isinstance(answer, str):
                    failures.append(answer)
                    queue = iter(())  # what the others have in hand is still waited for
                else:
                    yield index, torch.tensor(answer, dtype=torch.float64, device="cpu")  # type: ignore[misc]
                worker.take(queue)
    if failures:
        raise RuntimeError(f"{failures[0]}; with resume= the same call goes on from the points done")


@dataclass(eq=False)
class _Worker:
    """A process, our end of the pipe to it, and the point that it has in hand."""

    number: int
    process: BaseProcess
    pipe: Connection
    index: int | None = None

    def take(self, queue: Iterator[int]) -> None:
        self.index = next(queue, None)
        if self.index is not None:
            with suppress(OSError):  # it is dead, as `answer` will tell
                self.pipe.send(self.index)

    def answer(self) -> list[list[float]] | str:
        """The values, or what went wrong."""
        name = f"worker {self.number} (process {self.process.pid})"
        try:
            answer = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            cause = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            guard = "; a script must call from under `if __name__ == '__main__':`" if code > 0 else ""
            return f"{name} {cause} at point {self.index}{guard}"
        return f"{name} failed at point {self.index}: {answer}" if isinstance(answer, str) else answer


@contextmanager
def _crew(payload: bytes, workers: int) -> Iterator[list[_Worker]]:
    """Idle workers, ended with the block; each has its share of this process's threads."""
    context, crew = get_context("spawn"), []
    threads = max(1, torch.get_num_threads() // workers)
    try:
        for number in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, payload, threads))
            process.start()
            theirs.close()  # or the end of the process would not end the pipe
            crew.append(_Worker(number, process, ours))
        yield crew
    finally:
        for worker in crew:
            worker.pipe.close()
            worker.process.terminate()
            worker.process.join()


def _serve(pipe: Connection, payload: bytes, threads: int) -> None:
    """The worker's side: a point's index comes, its values go, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle
    torch.set_num_threads(threads)
    try:
        evaluator, points = pickle.loads(payload)
        while True:
            pipe.send(evaluator.at(points[pipe.recv()]).tolist())
    except (EOFError, OSError):
        return
    except Exception as error:  # whatever it is, the parent shall say it
        pipe.send(f"{type(error).__name__}: {error}")


def _pickled(evaluator: SliceEvaluator, points: Points) -> bytes:
    try:
        return pickle.dumps((evaluator, points))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"workers= sends model, criterion, accuracy and data to other processes, which failed: "
            f"{str(error).splitlines()[0]}; use functions of a module, no lambda"
        ) from error
