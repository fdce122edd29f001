"""Executors of somebody's own: what is sent to them, what they fail at, what they are given back."""

import os
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from time import sleep

import pytest
import torch

from landscape.processes import WorkerError, pool


class Noted:
    """A function that notes in a file each process that unpickles it; gives torch's threads."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        with self.file.open("a") as lines:
            lines.write(f"{os.getpid()}\n")

    def __call__(self, piece: int) -> int:
        return torch.get_num_threads()


class Broken(Executor):
    """What it is sent ends as `outcome` has it."""

    def __init__(self, outcome: Exception | None) -> None:
        self.outcome = outcome

    def submit(self, *_, **__) -> Future:
        future = Future()
        if self.outcome is None:
            future.cancel()
            future.set_running_or_notify_cancel()
        else:
            future.set_exception(self.outcome)
        return future


def test_a_function_is_unpickled_once_in_a_process_which_has_its_threads_meanwhile(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        before = executor.submit(torch.get_num_threads).result()
        with pool(Noted(tmp_path / "processes"), executor, threads=3) as results:
            assert dict(results(range(5))) == dict.fromkeys(range(5), 3)
            assert dict(results(range(5))) == dict.fromkeys(range(5), 3)
        assert len((tmp_path / "processes").read_text().split()) == 1
        assert executor.submit(torch.get_num_threads).result() == before == 1


def test_threads_of_this_process_stay_as_they_are_and_nothing_is_pickled_for_them() -> None:
    with ThreadPoolExecutor(1) as executor, pool(lambda _: torch.get_num_threads(), executor, threads=3) as results:
        assert dict(results([0])) == {0: 1}


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (RuntimeError("4 workers died\nwhile they ran it"), "RuntimeError: 4 workers died"),
        (ModuleNotFoundError("No module named 'landscape'"), "ModuleNotFoundError: No module named 'landscape'"),
        (None, "the executor has cancelled it, or lost its scheduler"),
    ],
)
def test_what_the_executor_itself_fails_at_is_one_line(outcome: Exception | None, said: str) -> None:
    with pytest.raises(WorkerError) as error, pool(abs, Broken(outcome), unit="sum") as results:
        list(results([1, 2]))
    assert str(error.value) == f"a worker failed at sum 1: {said}"


def test_what_was_not_begun_is_taken_back_when_the_work_is_interrupted() -> None:
    done: list[int] = []

    def work(piece: int) -> None:
        sleep(0.02)
        done.append(piece)

    with ThreadPoolExecutor(1) as executor:
        with suppress(KeyboardInterrupt), pool(work, executor) as results:
            next(results(range(200)))
            raise KeyboardInterrupt
        assert executor.submit(abs, -1).result() == 1
    assert 1 <= len(done) < 100
