"""Foreign and damaged files in a run folder, and two trainers in one."""

import random
import shutil
from threading import Event, Thread

import pytest
import torch
from served import together
from training_cases import config, cut_short, rows, weights

from landscape.storage.atomic import locked_folder
from landscape.training import read_log, train


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run that was stopped in its second epoch."""
    run = config(tmp_path / "run")
    cut_short(run, 4, monkeypatch)
    return run


def refused(run, message):
    with pytest.raises(ValueError, match=message) as caught:
        train(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\0", b"PK\x03\x04", b"\x80\x02K\x01.", b"\0" * 4096])
def test_a_state_that_is_none_is_one_line(run, content):
    (run.folder / "resume.pt").write_bytes(content)
    refused(run, r"resume\.pt is no readable resume state: .*; delete it to train from the start")


def test_an_empty_state_is_none(run, tmp_path):
    (run.folder / "resume.pt").write_bytes(b"")
    assert torch.equal(weights(train(run)), weights(train(config(tmp_path / "whole"))))
    assert [line["epoch"] for line in rows(run.folder)] == [1, 2, 3]


@pytest.mark.parametrize("change", [{"epoch": 10**9}, {"epoch": -1}, {"epoch": 1.5}, {"batches": -1}, {"more": 3}])
def test_a_state_of_no_moment_of_the_run_is_refused(run, change):
    path = run.folder / "resume.pt"
    state = torch.load(path, weights_only=True)
    torch.save(state | {"progress": state["progress"] | change}, path)
    refused(run, "is no readable resume state")
    torch.save({name: part for name, part in state.items() if name != "optimizer"}, path)
    refused(run, "is no readable resume state: 'optimizer'")


@pytest.mark.parametrize("damage", ["", "[1]\n", '{"epoch": 7, "seconds": 1.0}\n'])
def test_a_damaged_log_is_put_back(run, tmp_path, damage):
    (run.folder / "log.jsonl").write_text(damage)
    assert rows(train(run)) == rows(train(config(tmp_path / "whole")))


def test_a_changed_bit_of_a_state_is_refused_or_changes_nothing(run, tmp_path):
    whole, path = weights(train(config(tmp_path / "whole"))), run.folder / "resume.pt"
    state, refusals, source = path.read_bytes(), 0, random.Random(0)
    for trial in range(40):
        place, content = tmp_path / f"{trial}", bytearray(state)
        content[source.randrange(len(state))] ^= 1 << source.randrange(8)
        shutil.copytree(run.folder, place)
        (place / "resume.pt").write_bytes(content)
        try:
            found = weights(train(config(place)))
        except ValueError:
            refused(config(place), r"resume\.pt is no readable resume state: ")
            refusals += 1
        else:
            assert torch.equal(found, whole)
    assert 10 < refusals < 40


def test_a_state_of_an_earlier_version_has_no_log(run, tmp_path):
    state = torch.load(run.folder / "resume.pt", weights_only=True)
    del state["log"]
    torch.save(state, run.folder / "resume.pt")
    assert rows(train(run)) == rows(train(config(tmp_path / "whole")))


def test_a_damaged_log_is_one_line_for_its_reader(run):
    for content in (b"[1]\n", b"{", b"\xff"):
        (run.folder / "log.jsonl").write_bytes(content)
        with pytest.raises(ValueError, match=r"log\.jsonl must hold a JSON object a line: "):
            read_log(run.folder)


def test_a_second_trainer_is_refused_and_goes_on_when_the_first_has_left(run):
    entered, leave = Event(), Event()

    def first():
        with locked_folder(run.folder):
            entered.set()
            leave.wait(30)

    thread = Thread(target=first)
    thread.start()
    assert entered.wait(30)
    refused(run, r"^folder .*run is in use by another process; let it end or choose another$")
    leave.set()
    thread.join()
    assert len(rows(train(run))) == 3


def test_a_network_that_was_cut_is_written_again(run):
    path = train(run) / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert train(run).joinpath(path.name).read_bytes() == whole


def test_of_two_trainers_started_together_one_is_refused_or_finds_it_done(tmp_path):
    runs = [config(tmp_path / f"{trial}", epochs=2) for trial in range(20)]
    whole = train(config(tmp_path / "whole", epochs=2))
    for run, told in zip(runs, together(train, runs), strict=True):
        in_use = f"ValueError: folder {run.folder} is in use by another process; let it end or choose another"
        assert run.folder in told
        assert set(told) <= {run.folder, in_use}
        assert (run.folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
        assert rows(run.folder) == rows(whole)
        assert {path.name for path in run.folder.iterdir()} == {path.name for path in whole.iterdir()}
