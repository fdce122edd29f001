import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import active_children, get_context
from pathlib import Path

import pytest
import torch
from served import all_ended

from landscape.processes import WorkerError, pool

PIECES = [f"60 // {i}" for i in range(1, 8)]
RESULTS = [(piece, 60 // i) for i, piece in enumerate(PIECES, start=1)]
THREADS = "__import__('torch').get_num_threads(), __import__('signal').getsignal(2) == __import__('signal').SIG_IGN"
NAPS = [f"__import__('time').sleep(0.01 * {i} / {i})" for i in range(1, 301)]
FAILURE = r"^a worker failed at sum 1 // 0: ZeroDivisionError: [\w ]+$"


def test_processes_give_what_this_one_does_with_their_share_of_threads_and_a_failure_is_one_line():
    torch.set_num_threads(4)
    try:
        with pool(eval, 2, unit="sum") as results:
            assert sorted(results(PIECES)) == RESULTS
            assert dict(results([THREADS])) == {THREADS: (2, True)}  # by the same processes
            assert len(active_children()) == 2
            found = []
            with pytest.raises(WorkerError, match=FAILURE):
                found.extend(results([*PIECES, "1 // 0", *NAPS]))
            assert sorted(own for own in found if own[1]) == RESULTS
            assert len(found) < 100  # what was not begun is left
        assert not active_children()
        with pool(eval, 1, threads=3) as results:
            ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN  # as this process was started
            assert list(results([*PIECES, THREADS])) == [*RESULTS, (THREADS, (3, ignored))]
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(1)


def test_an_executor_of_somebodys_own_is_left_running():
    found = []
    with ThreadPoolExecutor(1) as executor, pool(eval, executor, unit="sum") as results:
        assert sorted(results(PIECES)) == RESULTS
        with pytest.raises(WorkerError, match=FAILURE):
            found.extend(results(["1 // 0", *NAPS]))
        assert len(found) < 100
        assert executor.submit(abs, -1).result() == 1


def test_in_this_process_the_error_itself_comes_through():
    with pytest.raises(ZeroDivisionError), pool(eval) as results:
        list(results(["1 // 0"]))


def test_a_killed_process_of_somebodys_executor_is_said():
    with (
        ProcessPoolExecutor(1, get_context("spawn")) as executor,
        pytest.raises(WorkerError, match=r"^a worker of the executor was killed$"),
        pool(signal.raise_signal, executor) as results,
    ):
        list(results([signal.SIGKILL, 0]))


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path):
    """A study's workers used to live on for ever, and to write into the folder of the next one."""
    script = tmp_path / "script.py"
    script.write_text(
        "import time\nfrom pathlib import Path\nfrom landscape.processes import pool\n\n"
        "def work(name):\n    Path(name).touch()\n    time.sleep(600)\n\n"
        "if __name__ == '__main__':\n    with pool(work, 2) as results:\n        list(results(['a', 'b']))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    settings = {"cwd": tmp_path, "env": environment, "stderr": subprocess.DEVNULL, "start_new_session": True}
    parent = subprocess.Popen([sys.executable, str(script)], **settings)
    files, limit = [tmp_path / "a", tmp_path / "b"], time.monotonic() + 60
    while not all(file.exists() for file in files) and time.monotonic() < limit:
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    assert all(file.exists() for file in files)
    assert all_ended([parent.pid])
