import os
import resource
import signal
from multiprocessing import get_context
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from landscape.storage import atomic
from landscape.storage.atomic import locked, locked_folder, replacing


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path):
    target = tmp_path / "lr0.1-results.npz"
    target.write_text("old")
    with replacing(target) as partial:
        partial.write_text("new")
        assert target.read_text() == "old"
        assert partial.suffix == target.suffix  # some writers add it where it is missing
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_writer_that_fails_leaves_the_old_file(tmp_path):
    target = tmp_path / "log.jsonl"
    target.write_text("old")

    def killed():
        with replacing(target) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert target.read_text() == "old"


def test_files_of_one_stem_do_not_share_a_temporary_name(tmp_path):
    with replacing(tmp_path / "model.safetensors") as weights, replacing(tmp_path / "model.json") as metadata:
        weights.write_text("weights")
        metadata.write_text("metadata")
    assert (tmp_path / "model.safetensors").read_text() == "weights"
    assert (tmp_path / "model.json").read_text() == "metadata"


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    target = tmp_path / "f.bin"
    with replacing(target) as slow:
        slow.write_bytes(b"A" * 10)
        with replacing(target) as quick:
            quick.write_bytes(b"B" * 20)
        assert target.read_bytes() == b"B" * 20
    assert target.read_bytes() == b"A" * 10
    assert list(tmp_path.iterdir()) == [target]


def test_file_and_folder_are_on_the_disk_before_the_name_counts(tmp_path, monkeypatch):
    told, original = [], os.fsync

    def fsync(number):
        told.append((Path(f"/proc/self/fd/{number}").resolve(), (tmp_path / "f").exists()))
        original(number)

    monkeypatch.setattr(os, "fsync", fsync)
    with replacing(tmp_path / "f") as partial:
        partial.write_text("new")
    assert told == [(partial, False), (tmp_path, True)]


WRITERS = {
    "text": lambda path: path.write_text("x" * 9000),
    "numpy": lambda path: np.savez(path, x=np.zeros(9000)),
    "torch": lambda path: torch.save(torch.zeros(9000), path),
    "safetensors": lambda path: save_file({"x": torch.zeros(9000)}, path),
}


@pytest.fixture
def full_disk():
    """No file may grow beyond 1,000 bytes."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # NumPy's zip file, left open
@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path, kind):
    target = tmp_path / "f.npz"
    target.write_text("old")
    said = r"f\.npz cannot be written: .*; make room or choose another place"
    with pytest.raises(OSError, match=said) as caught, replacing(target) as partial:
        WRITERS[kind](partial)
    assert "\n" not in str(caught.value)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def holding(folder, entered, leave):
    with locked_folder(Path(folder)):
        entered.set()
        leave.wait(30)


def test_a_second_process_is_refused_or_waits_and_a_killed_one_holds_nothing(tmp_path):
    context = get_context("fork")
    for killed in (False, True):
        entered, leave = context.Event(), context.Event()
        other = context.Process(target=holding, args=(tmp_path, entered, leave))
        other.start()
        assert entered.wait(30)
        with pytest.raises(ValueError, match=r"^folder .* is in use by another process; let it end or choose another$"):
            locked_folder(tmp_path).__enter__()
        Thread(target=other.kill if killed else leave.set).start()
        with locked_folder(tmp_path, wait=True):
            other.join(30)
        assert not other.is_alive()


def test_the_same_thread_enters_again(tmp_path):
    with locked_folder(tmp_path), locked_folder(tmp_path):
        pass
    with locked_folder(tmp_path):
        pass


def test_what_dead_writers_left_is_removed_and_what_is_being_written_stays(tmp_path, monkeypatch):
    for name in (".a.0.partial.npz", ".b.1.partial"):
        (tmp_path / name).touch()
    os.utime(tmp_path / ".a.0.partial.npz", (0, 0))
    with locked_folder(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {".b.1.partial", atomic.LOCK}


def test_a_lock_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"^thing must be writable, got .*/file: \w.*$"):
        locked(tmp_path / "file" / "lock", "thing", tmp_path / "file").__enter__()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ValueError, match=r"^thing must be writable, got here: .*loop.*$"):
        locked(tmp_path / "loop", "thing", Path("here")).__enter__()
