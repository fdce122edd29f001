import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import active_children, get_context
from operator import floordiv
from pathlib import Path

import pytest
import torch

from landscape.processes import WorkerError, pool


def test_every_executor_gives_what_this_process_does():
    pieces = list(range(1, 8))
    expected = [(piece, 60 // piece) for piece in pieces]
    with pool(partial(floordiv, 60)) as results:
        assert list(results(pieces)) == expected
    with ThreadPoolExecutor(3) as executor, pool(partial(floordiv, 60), executor) as results:
        assert sorted(results(pieces)) == expected
        assert executor.submit(abs, -1).result() == 1  # it is left running
    with pool(partial(floordiv, 60), 2) as results:
        assert sorted(results(pieces)) == expected
        assert sorted(results(pieces)) == expected  # the same processes serve again
        assert len(active_children()) == 2
    assert not active_children()


@pytest.mark.parametrize("workers", [2, "threads"])
def test_a_failure_is_one_line_and_the_other_results_are_handed_over(workers):
    found = []
    with (
        ThreadPoolExecutor(1) as executor,
        pytest.raises(WorkerError, match=r"^a worker failed at nap -1: ValueError: [\w -]+$"),
        pool(time.sleep, executor if workers == "threads" else 2, unit="nap") as results,
    ):
        found.extend(results([0.0, 0.0, -1, *[0.01] * 300]))
    assert found[:2] == [(0.0, None)] * 2
    assert len(found) < 100  # what was not begun is left
    assert not active_children()


def test_in_this_process_the_error_itself_comes_through():
    with pytest.raises(ZeroDivisionError), pool(partial(floordiv, 60)) as results:
        list(results([0]))


def test_a_killed_process_of_somebodys_executor_is_said():
    with (
        ProcessPoolExecutor(1, get_context("spawn")) as executor,
        pytest.raises(WorkerError, match=r"^a worker of the executor was killed$"),
        pool(signal.raise_signal, executor) as results,
    ):
        list(results([signal.SIGKILL, 0]))


def test_each_process_has_its_share_of_the_threads_and_leaves_the_interrupt_to_its_parent():
    torch.set_num_threads(4)
    try:
        with pool(eval, 2) as results:  # a function that every process has
            code = "__import__('torch').get_num_threads(), __import__('signal').getsignal(2) == 1"
            assert dict(results([code]))[code] == (2, True)
        with pool(eval, 1, threads=3) as results:
            assert dict(results([code]))[code] == (3, False)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(1)


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path):
    """A study's workers used to live on for ever, and to write into the folder of the next one."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, time\nfrom pathlib import Path\nfrom landscape.processes import pool\n\n"
        "def work(name):\n    Path(name).write_text(str(os.getpid()))\n    time.sleep(600)\n\n"
        "if __name__ == '__main__':\n    with pool(work, 2) as results:\n        list(results(['a', 'b']))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    parent = subprocess.Popen([sys.executable, str(script)], cwd=tmp_path, env=environment)
    files, limit = [tmp_path / "a", tmp_path / "b"], time.monotonic() + 60
    while not all(file.exists() and file.read_text() for file in files) and time.monotonic() < limit:
        time.sleep(0.05)
    workers = [int(file.read_text()) for file in files]
    parent.kill()
    parent.wait()
    limit = time.monotonic() + 10
    while any(map(alive, workers)) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not any(map(alive, workers))


def alive(pid: int) -> bool:
    """Whether it runs; one that has ended may wait for its new parent to take note."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
