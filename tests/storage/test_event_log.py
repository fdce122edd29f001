import json
import resource
import signal
from math import inf, nan
from threading import Thread

import pytest
import torch
from cases import normal

from landscape.slices.evaluation.walk_log import WalkLog, kept
from landscape.storage.event_log import EventLog

LOSSES = torch.tensor([0.5, nan], dtype=torch.float64)


def log(path, **settings):
    return EventLog(path, settings or {"k": 1}, LOSSES)


@pytest.fixture
def path(tmp_path):
    """A log with three entries."""
    own = log(tmp_path / "w.jsonl")
    assert own.read() == []
    with own.opened() as keep:
        for number in range(3):
            keep([number])
    assert [p.name for p in tmp_path.iterdir()] == ["w.jsonl"]
    return own.path


def gone_on(path):
    """The entries, as the next run reads them and goes on with 9."""
    own = log(path)
    found = own.read()
    with own.opened() as keep:
        keep([9])
    return found, log(path).read()


def test_cut_at_any_byte_it_goes_on_with_what_is_whole(path):
    whole = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == 10]
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        left = [[number] for number in range(sum(end <= length for end in ends[1:]))]
        assert gone_on(path) == (left, [*left, [9]])


@pytest.mark.parametrize("length", [0, 5, 400])
def test_a_loss_of_power_that_left_zeros_is_nothing_done(path, length):
    path.write_bytes(b"\0" * length)
    assert gone_on(path) == ([], [[9]])


def test_an_unreadable_line_is_said_and_all_from_there_on_is_done_again(path):
    head, first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(head + first + second.replace(b"1,", b"},") + third)
    with pytest.warns(UserWarning, match=r"w\.jsonl: line 3 is not readable; from there on it is done again"):
        found = gone_on(path)
    assert found == ([[0]], [[0], [9]])


def one(content):
    (number,) = content
    return number


def test_no_changed_bit_of_an_entry_is_taken(path):
    before, entry, after = path.read_bytes().partition(b"[1, ")
    entry, after = entry + after[: after.index(b"\n")], after[after.index(b"\n") :]
    for bit in range(8 * len(entry)):
        changed = bytearray(entry)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(before + changed + after)
        with pytest.warns(UserWarning, match="line 3 is not readable"):
            assert log(path).read(one) == [0], changed


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"my thesis", "holds something else than work to go on with"),
        (b"my thesis\n", "holds something else than work to go on with"),
        (b"[1]\n", "holds .* weights belong into the model: name a new file"),
        (b'{"settings": 3}\n', "is not readable: .*; delete it to start again"),
        (b"[" * 10**5 + b"\n", "holds something else than work to go on with"),
    ],
)
def test_a_file_of_another_kind_is_refused_and_stays(tmp_path, content, said):
    (tmp_path / "w.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=rf"w\.jsonl {said}"):
        log(tmp_path / "w.jsonl").read()
    assert (tmp_path / "w.jsonl").read_bytes() == content


def test_other_work_is_named(path):
    with pytest.raises(ValueError, match=r"was written with other k, new; delete it or name another"):
        log(path, k=2, new=3).read()
    for losses in (torch.tensor([0.5]), torch.tensor([0.6, nan]), torch.tensor([0.5, inf])):
        with pytest.raises(ValueError, match="was written with other data or criterion"):
            EventLog(path, {"k": 1}, losses.double()).read()


def test_a_line_that_the_disk_takes_in_part_is_told_and_taken_back(path):
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    own, size = log(path), path.stat().st_size
    assert own.read() == [[0], [1], [2]]
    with own.opened() as keep:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, limits[1]))
        with pytest.raises(OSError, match=r"w\.jsonl cannot be written: File too large; make room, then go on$"):
            keep(["a long line"])
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
        assert path.stat().st_size == size
        keep(["room"])
    assert log(path).read() == [[0], [1], [2], ["room"]]


def test_a_second_writer_is_refused_and_harms_nothing(path, tmp_path):
    own, told = log(path), []
    own.read()

    def second():
        try:
            log(path).opened().__enter__()
        except ValueError as error:
            told.append(str(error))

    with own.opened() as keep:
        keep([3])
        thread = Thread(target=second)
        thread.start()
        thread.join()
        assert told == [f"resume file {path} is in use by another process; let it end or choose another"]
        keep([4])
    assert log(path).read() == [[0], [1], [2], [3], [4]]


@pytest.mark.parametrize("entry", [[-1, [[1.0]]], [2, [[1.0]]], [0.0, [[1.0]]], [True, [[1.0]]], [0, [1.0]], [0], 7])
def test_a_point_that_the_walk_does_not_have_is_not_taken(tmp_path, entry):
    def walk():
        return WalkLog(tmp_path / "w.jsonl", {}, LOSSES, (2, 1, 1))

    row = normal(1, 1)
    with kept(walk()) as keep:
        keep(1, row)
    with (tmp_path / "w.jsonl").open("a") as file:
        file.write(json.dumps(entry) + "\n")
    with pytest.warns(UserWarning, match="line 3 is not readable"):
        found = walk().rows()
    assert list(found) == [1]
    assert torch.equal(found[1], row)
