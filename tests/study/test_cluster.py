"""A study by other people's executors: on a cluster that loses a worker, and where the folder is not shared."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any

import pytest
import yaml
from commands import run

from landscape.processes.cluster import cluster
from landscape.study import Analysis, StudyConfig, grid, run_study, study_runner
from landscape.study.own_checkpoint import OwnCheckpoint
from landscape.study.study_runner import broken

BASE = {"model": "mlp", "model_settings": {"hidden": [4]}, "epochs": 1, "batch_size": 1500}
ANALYSIS = Analysis(["gradient_norm"], samples=50, probes=1, steps=4, line_points=3, plane_points=3)
FILES = ("model.safetensors", "density.npz", "slice_1d.npz", "slice_2d.npz")


def config(folder: Path, seeds: int) -> StudyConfig:
    return StudyConfig(grid(folder, BASE, {"seed": range(seeds)}), ANALYSIS, workers=1)


def kill_when_some_are_measured(pid: int, folder: Path) -> None:
    while len(list(folder.glob("*/metrics.json"))) < 1:
        sleep(0.01)
    os.kill(pid, signal.SIGKILL)


def test_a_study_whose_cluster_loses_a_worker_half_way_equals_that_of_one_process(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    lost, whole = config(tmp_path / "lost", 4), config(tmp_path / "whole", 4)
    with cluster("local", 2, devices=[]) as executor:
        pid = min(executor._client.run(os.getpid).values())
        killer = Thread(target=kill_when_some_are_measured, args=(pid, tmp_path / "lost"))
        killer.start()
        rows = run_study(lost, executor, progress=False)
        killer.join()
        assert pid not in executor._client.run(os.getpid).values()
    assert rows == run_study(whole, progress=False)
    assert len(rows) == 4
    assert broken(lost) == {}
    for name in lost.members:
        for file in FILES:
            assert (tmp_path / "lost" / name / file).read_bytes() == (tmp_path / "whole" / name / file).read_bytes()
    assert not list((tmp_path / "lost").glob(".study-*"))


def test_a_worker_that_does_not_see_the_folder_is_one_line_and_nothing_is_made_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    elsewhere = ProcessPoolExecutor(1, get_context("spawn"), os.chdir, (tmp_path / "there",))
    line = r"^a worker failed at network .* does not see the study's folder runs; it must be shared, under the same abs"
    with elsewhere, pytest.raises(ValueError, match=line) as error:
        run_study(config(Path("runs"), 2), elsewhere, progress=False)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "there").iterdir())
    assert not list((tmp_path / "here" / "runs").iterdir())


class Killed(Executor):
    """A pool of which a process is gone."""

    def submit(self, *_: Any, **__: Any) -> Future:
        future: Future = Future()
        future.set_exception(BrokenProcessPool("A child process terminated abruptly"))
        return future


def test_a_pool_that_is_broken_says_what_to_do(tmp_path: Path) -> None:
    line = r"^a worker of the executor was killed; what is finished is kept, the same command goes on, with fewer w"
    with pytest.raises(ValueError, match=line):
        run_study(config(tmp_path, 1), Killed(), progress=False)


def test_the_command_hands_its_networks_to_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = []

    class Threads(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **settings: Any) -> Future:
            asked.append(arguments[-1])
            return super().submit(*arguments, **settings)

    @contextmanager
    def threads(address: str, workers: int) -> Iterator[Executor]:
        asked.append((address, workers))
        with Threads(1) as executor:
            yield executor

    monkeypatch.chdir(tmp_path)
    small = {"metrics": ["weight_norm"], "samples": 50, "probes": 0, "line_points": 0, "plane_points": 0}
    Path("grid.yaml").write_text(yaml.safe_dump({"base": BASE, "axes": {"seed": [0]}, "analysis": small}))
    command = ("study", "grid.yaml", "--runs", "runs", "--out", "out", "--cluster", "tcp://127.0.0.1:9")
    assert run(*command) == 2
    assert capsys.readouterr().err.startswith("landscape: no Dask scheduler answers at tcp://127.0.0.1:9: ")
    assert not Path("runs").exists()
    monkeypatch.setattr("landscape.cli.study.cluster", threads)
    monkeypatch.setattr("landscape.cli.study.report_study", lambda *_, **__: Path("page.html"))
    assert run(*command) == 0
    assert asked == [("tcp://127.0.0.1:9", 2), *((stage, "seed0") for stage in ("train", "measure", "slice"))]
    assert "1 networks, on the cluster at tcp://127.0.0.1:9, are trained" in capsys.readouterr().out
    assert Path("runs/seed0/metrics.json").exists()


def test_gpus_are_dealt_out_unless_a_network_has_one_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_runner, "visible_devices", lambda: ["0", "1"])
    for device, expected in {"auto": ["0", "1"], "cuda": ["0", "1"], "cuda:1": []}.items():
        assert study_runner._devices([OwnCheckpoint(tmp_path, "", "", {}, {}, device=device)]) == expected
    assert study_runner._devices(config(tmp_path, 1).members.values()) == ["0", "1"]
