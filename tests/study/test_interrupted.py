"""A study that is stopped, or finds no room on the disk, at any of its writes; two at once; damaged files."""

import errno
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from served import together

from landscape.study import Analysis, StudyConfig, grid, run_study
from landscape.study.study_runner import broken, table

BASE = {"model": "mlp", "model_settings": {"hidden": [4]}, "epochs": 1, "batch_size": 1500}
ANALYSIS = Analysis(["gradient_norm"], samples=50, probes=1, steps=4, line_points=3, plane_points=3)
FILES = (
    "config.json",
    "model.safetensors",
    "model.json",
    "density.npz",
    "metrics.json",
    "slice_1d.npz",
    "slice_2d.json",
)


def config(folder: Path, seeds: int = 1, workers: int = 1) -> StudyConfig:
    return StudyConfig(grid(folder, BASE, {"seed": range(seeds)}), ANALYSIS, workers)


def run(folder: Path, seeds: int = 1) -> list[dict[str, Any]]:
    return run_study(config(folder, seeds), progress=False)


def as_undisturbed(folder: Path, whole: Path) -> None:
    """The next run of the same command ends with the table and the files of a run that nothing disturbed."""
    assert run(folder) == table(config(whole))
    assert broken(config(folder)) == {}
    assert sorted(path.name for path in (folder / "seed0").iterdir()) == sorted(
        p.name for p in (whole / "seed0").iterdir()
    )
    for name in ("model.safetensors", "slice_1d.npz", "slice_2d.npz", "density.npz"):
        assert (folder / "seed0" / name).read_bytes() == (whole / "seed0" / name).read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return folder


class Disturbed:
    """A disk that is full, or a process that is stopped, at write number `moment`, or full from there on.

    A write is a file opened for writing (a lock and a log too) or renamed; it is stopped after the renames alone.
    """

    def __init__(self, happens: str, moment: int) -> None:
        self.happens, self.moment, self.calls = happens, moment, 0

    def patch(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(os, "replace", self._disturbing(os.replace, lambda *_, **__: True))
        if self.happens != "stopped after":
            patch.setattr(os, "open", self._disturbing(os.open, lambda _, flags, *__, **___: bool(flags & os.O_CREAT)))
            patch.setattr(io, "open", self._disturbing(io.open, lambda _, mode="r", *__, **___: mode[0] != "r"))

    def _disturbing(self, original: Callable[..., Any], writes: Callable[..., bool]) -> Callable[..., Any]:
        def disturbed(*arguments: Any, **settings: Any) -> Any:
            self.calls += writes(*arguments, **settings)
            met = self.calls == self.moment or (self.happens == "full for good" and self.calls > self.moment)
            if not writes(*arguments, **settings) or not met:
                return original(*arguments, **settings)
            if self.happens.startswith("full"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            original(*arguments, **settings)
            raise KeyboardInterrupt

        return disturbed


@pytest.mark.parametrize("happens", ["stopped after", "full for good", "full once"])
def test_at_every_write_it_goes_on_to_the_same_files(
    happens: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for moment in range(1, 100):
        folder, disturbed = tmp_path / f"{moment}", Disturbed(happens, moment)
        with monkeypatch.context() as patch:
            disturbed.patch(patch)
            try:
                run(folder)
                said = ""
            except (KeyboardInterrupt, OSError, ValueError) as error:
                said = str(error)
        assert said == "" or "No space left on device" in said  # or it is the reason why the one network failed
        assert "\n" not in said
        as_undisturbed(folder, whole)
        if disturbed.calls < moment:
            break
    assert moment > (12 if happens == "stopped after" else 26)  # writes of one network


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "digit", "gone"])
def test_a_damaged_result_is_made_anew(damage: str, whole: Path, tmp_path: Path) -> None:
    run(tmp_path)
    for name in FILES:
        path = tmp_path / "seed0" / name
        content = path.read_bytes()
        middle = len(content) // 2
        left = {"cut": content[:middle], "empty": b"", "flipped": content[:middle] + b"\xff" + content[middle + 1 :]}
        if damage == "gone":
            path.unlink()
        elif name == "config.json" and damage != "empty":
            continue  # what the run is: it is refused
        elif damage == "digit":
            path.write_bytes(re.sub(rb"(?<=\.\d\d)\d", lambda digit: bytes([digit[0][0] ^ 1]), content))
        else:
            path.write_bytes(left[damage])
        as_undisturbed(tmp_path, whole)


def test_a_failure_that_could_pass_is_tried_again_and_another_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    causes: dict[Exception, bool] = {
        OSError(errno.EIO, "Input/output error"): True,
        MemoryError("no room"): True,
        torch.OutOfMemoryError("CUDA out of memory"): True,
        RuntimeError("[enforce fail] DefaultCPUAllocator: out of memory"): True,
        ValueError("the loss is nan"): False,
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"): False,
    }
    for index, (error, again) in enumerate(causes.items()):
        folder = tmp_path / f"{index}"
        with monkeypatch.context() as patch:
            patch.setattr(
                "landscape.study.network_record.analyze", lambda *_, error=error, **__: (_ for _ in ()).throw(error)
            )
            with pytest.raises(ValueError, match="no network of the study came through; the first: measure: "):
                run(folder)
        if again:
            assert len(run(folder)) == 1
            assert not (folder / "seed0" / "broken.json").exists()
        else:
            with pytest.raises(ValueError, match="no network of the study came through"):
                run(folder)


def complete(folder: Path) -> int:
    return len(run(folder, seeds=2))


def test_two_studies_on_one_folder_share_the_work(tmp_path: Path) -> None:
    folders = [tmp_path / f"{trial}" for trial in range(20)]
    assert together(complete, folders) == [[2, 2]] * len(folders)
    assert not list(tmp_path.rglob("broken.json"))
    assert not list(tmp_path.rglob("*.partial*"))
    for folder in folders:
        assert table(config(folder, seeds=2)) == table(config(folders[0], seeds=2))


def test_hyper_parameters_named_as_what_is_computed_are_refused_before_anything_is_done(tmp_path: Path) -> None:
    for column in ("trace", "lambda_max_stderr", "generalization_gap", "name"):
        networks = grid(tmp_path, BASE, {"seed": [0]})
        networks["seed0"].chosen[column] = 3  # type: ignore[index]
        with pytest.raises(ValueError, match=f"hyper-parameters must not be named as what is computed, got {column};"):
            StudyConfig(networks, ANALYSIS)
    with pytest.raises(ValueError, match=r"axes: two combinations have the name lr0\.1;"):
        grid(tmp_path, BASE, {"lr": [0.1, 0.1]})
    with pytest.raises(ValueError, match="two combinations have the name hidden4_4"):
        grid(tmp_path, {"model": "mlp"}, {"model_settings.hidden": [[4, 4], (4, 4)]})
    assert not list(tmp_path.iterdir())
