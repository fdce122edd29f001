"""GPUs dealt out to processes, of a list that is made up."""

import os
from functools import partial
from pathlib import Path
from time import sleep

import pytest
import torch

from landscape.processes import pool, visible_devices
from landscape.processes.devices import VISIBLE, dealt


def own(folder: Path, _piece: int) -> str | None:
    """What this process sees, once both are there."""
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < 2:
        sleep(0.01)
    return os.environ.get(VISIBLE)


@pytest.mark.parametrize(
    ("named", "count", "expected"),
    [
        (None, 3, ["0", "1", "2"]),
        (None, 0, []),
        ("2, 3", 2, ["2", "3"]),
        ("GPU-8932f937,MIG-5", 1, ["GPU-8932f937", "MIG-5"]),
        ("1,-1,2", 1, ["1"]),
        ("", 0, []),
    ],
)
def test_the_devices_of_this_process_are_those_that_it_may_see(
    named: str | None, count: int, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv(VISIBLE, raising=False)
    if named is not None:
        monkeypatch.setenv(VISIBLE, named)
    assert visible_devices() == expected


def test_every_process_sees_all_devices_its_own_one_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    assert [dealt(["4", "6", "7"], rank) for rank in range(4)] == ["4,6,7", "6,7,4", "7,4,6", "4,6,7"]
    with pool(partial(own, tmp_path), 2, devices=["4", "6"]) as results:
        assert {seen for _, seen in results(range(2))} == {"4,6", "6,4"}
    assert VISIBLE not in os.environ
