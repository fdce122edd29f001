"""A Dask cluster of two processes: its workers, one that is lost, and what is said where there is none."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Executor
from functools import partial
from multiprocessing import current_process
from pathlib import Path

import pytest
import torch
from torch import nn

import landscape as ls
from landscape.processes import WorkerError, pool
from landscape.processes.cluster import cluster
from landscape.processes.devices import VISIBLE
from landscape.slices import convexity_map

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    with cluster("local", 2, devices=["4", "6"]) as found:
        yield found


def place() -> tuple[str | None, bool]:
    return os.environ.get(VISIBLE), current_process().daemon


def what_slows_it() -> tuple[str | None, bool]:
    import dask

    return os.environ.get("MALLOC_TRIM_THRESHOLD_"), dask.config.get("distributed.worker.profile.enabled")


def threads(_piece: int) -> int:
    return torch.get_num_threads()


def dies_once(mark: Path, piece: int) -> int:
    if piece == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return piece**2


def test_a_worker_has_its_own_gpu_first_the_threads_asked_for_and_may_start_processes(executor: Executor) -> None:
    assert {*executor._client.run(place).values()} == {("4,6", False), ("6,4", False)}
    with pool(threads, executor, threads=3) as results:
        assert {found for _, found in results(range(4))} == {3}


def test_a_worker_has_neither_dasks_malloc_nor_its_profiler(executor: Executor) -> None:
    assert executor.submit(what_slows_it).result() == (None, False)


def test_the_same_piece_is_done_each_time_it_is_asked_for_and_a_lambda_goes_along(executor: Executor) -> None:
    with pool(lambda _: os.urandom(8), executor) as results:
        assert len({found for _, found in results([0] * 6)}) == 6


def test_slices_and_maps_by_its_workers_are_those_of_one_process_to_the_bit(executor: Executor) -> None:
    torch.manual_seed(0)
    problem = ls.Problem(nn.Linear(3, 2), nn.CrossEntropyLoss(), (torch.randn(9, 3), torch.randint(2, (9,))))
    d1, d2 = ls.random_directions(problem)
    grid = {"x": (-1.0, 1.0, 3), "y": (-1.0, 2.0, 2), "progress": False}
    shared, alone = (ls.slice_2d(problem, d1, d2, **grid, workers=workers) for workers in (executor, 1))
    assert torch.equal(shared.loss["train"], alone.loss["train"])
    shared, alone = (convexity_map(problem, d1, d2, **grid, workers=workers) for workers in (executor, 1))
    assert torch.equal(shared.values, alone.values)


def test_what_a_lost_worker_had_is_done_by_another_one(executor: Executor, tmp_path: Path) -> None:
    with pool(partial(dies_once, tmp_path / "mark"), executor) as results:
        assert sorted(results(range(6))) == [(piece, piece**2) for piece in range(6)]
    assert (tmp_path / "mark").exists()


def test_a_failure_is_one_line_and_the_cluster_goes_on(executor: Executor) -> None:
    failure = pytest.raises(WorkerError, match=r"^a worker failed at sum 1 // 0: ZeroDivisionError: [\w ]+$")
    with failure, pool(eval, executor, unit="sum") as results:
        list(results(["1 // 0"]))
    assert executor.submit(abs, -1).result() == 1


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense://host:1", "127.0.0.1"])
def test_an_address_without_a_scheduler_is_one_line(address: str) -> None:
    line = f"^no Dask scheduler answers at {address}: .*; start one by `dask scheduler`"
    with pytest.raises(ValueError, match=line), cluster(address, wait=1.0):
        pass


def test_a_scheduler_without_workers_is_one_line() -> None:
    from distributed import LocalCluster

    line = r"must have a worker, got none in 5 s; start them by `dask worker tcp://"
    with (
        LocalCluster(n_workers=0, dashboard_address=":0") as empty,
        pytest.raises(ValueError, match=line),
        cluster(empty.scheduler_address, wait=5.0),
    ):
        pass


def test_the_environment_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    before = dict(os.environ)
    with cluster("local", 1) as executor:
        assert executor.submit(abs, -1).result() == 1
    assert dict(os.environ) == before
