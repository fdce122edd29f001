from itertools import pairwise

import numpy as np
import pytest
import torch
from cases import normal, same

from landscape.storage import array_checkpoint as module
from landscape.storage.array_checkpoint import ArrayCheckpoint, fingerprint

ARRAYS = {
    "doubles": normal(3, 4),
    "half": normal(5).to(torch.bfloat16),
    "numbers": torch.tensor([1, 2**40]),
    "random": torch.Generator().get_state(),
    "view": normal(6, 2).T,
    "nothing": torch.empty(0),
}


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    path = tmp_path / "new" / "work.npz"
    ArrayCheckpoint(path, {"k": 3}).save(ARRAYS)
    found = ArrayCheckpoint(path, {"k": 3}).load()
    assert found.keys() == ARRAYS.keys()
    assert all(same(found[name], value) for name, value in ARRAYS.items())
    assert [p.name for p in path.parent.iterdir()] == ["work.npz"]


def test_nothing_saved_is_none_and_close_removes(tmp_path):
    checkpoint = ArrayCheckpoint(tmp_path / "work.npz", {})
    assert checkpoint.load() is None
    checkpoint.save(ARRAYS)
    checkpoint.close()
    assert checkpoint.load() is None
    checkpoint.close()


def test_without_a_path_nothing_is_kept():
    checkpoint = ArrayCheckpoint(None, {})
    checkpoint.save(ARRAYS)
    checkpoint.save_if_due(pytest.fail)
    assert checkpoint.load() is None
    checkpoint.close()


def test_other_settings_are_refused_by_name(tmp_path):
    ArrayCheckpoint(tmp_path / "work.npz", {"k": 3, "tol": 0.1, "old": 1}).save(ARRAYS)
    with pytest.raises(ValueError, match=r"is of other work, with tol 0.1, old 1; choose another path"):
        ArrayCheckpoint(tmp_path / "work.npz", {"k": 3, "tol": 0.2}).load()
    assert ArrayCheckpoint(tmp_path / "work.npz", {"old": 1, "tol": 0.1, "k": 3}).load() is not None


def test_a_setting_that_the_file_lacks_is_named_and_the_arrays_come_back(tmp_path):
    ArrayCheckpoint(tmp_path / "work.npz", {"k": 3, "tol": 0.1, "old": 1}).save(ARRAYS)
    with pytest.raises(ValueError, match=r"with tol 0\.1, old 1, new None;"):
        ArrayCheckpoint(tmp_path / "work.npz", {"k": 3, "tol": 0.2, "new": 2}).load()
    stored = ArrayCheckpoint(tmp_path / "work.npz", {"k": 3, "tol": 0.1, "old": 1}).load()
    assert all(same(stored[name], value) for name, value in ARRAYS.items())


@pytest.mark.parametrize("content", [b"PK\x03\x04 half a file", b"text"])
def test_a_file_of_another_kind_is_refused_and_stays(tmp_path, content):
    (tmp_path / "work.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"work\.npz holds something else .*: name a new file$"):
        ArrayCheckpoint(tmp_path / "work.npz", {}).load()
    assert (tmp_path / "work.npz").read_bytes() == content


@pytest.mark.parametrize("save", [torch.save, lambda weights, path: np.savez(path, **weights)])
def test_weights_are_told_from_work_to_go_on_with(tmp_path, save):
    path = tmp_path / "work.npz"
    save({"weight": torch.ones(3)}, path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"weights belong into the model") as error:
        ArrayCheckpoint(path, {}).load()
    assert "delete" not in str(error.value)
    assert path.read_bytes() == before


def test_a_truncated_or_pickled_file_is_one_clear_line(tmp_path):
    checkpoint = ArrayCheckpoint(tmp_path / "work.npz", {})
    checkpoint.save(ARRAYS)
    whole = checkpoint.path.read_bytes()
    for content in (whole[: len(whole) // 2], bytes(100)):
        checkpoint.path.write_bytes(content)
        with pytest.raises(ValueError, match=r"is not readable: .*; delete it to start again"):
            checkpoint.load()
    np.savez(checkpoint.path, settings=np.array("{}"), object=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="is not readable"):
        checkpoint.load()


def test_a_changed_bit_is_one_line_or_changes_nothing(tmp_path):
    checkpoint, lines = ArrayCheckpoint(tmp_path / "work.npz", {"k": 3}), 0
    checkpoint.save(ARRAYS)
    content = checkpoint.path.read_bytes()
    for place in range(len(content)):
        checkpoint.path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        try:
            found = checkpoint.load()
        except ValueError:
            lines += 1
        else:
            assert found.keys() == ARRAYS.keys()
            assert all(same(found[name], value) for name, value in ARRAYS.items())
    assert lines > len(content) / 2


def test_a_file_of_an_earlier_version_names_no_arrays(tmp_path):
    np.savez(tmp_path / "work.npz", settings=np.array('{"k": 3}'), a=np.ones(2))
    assert torch.equal(ArrayCheckpoint(tmp_path / "work.npz", {"k": 3}).load()["a"], torch.ones(2).double())


def test_the_name_must_end_in_npz(tmp_path):
    with pytest.raises(ValueError, match=r"resume must end in .npz, got .*work.pt"):
        ArrayCheckpoint(tmp_path / "work.pt", {})


def test_writes_wait_for_their_time(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: clock[0])
    checkpoint, written = ArrayCheckpoint(tmp_path / "work.npz", {}), []

    def state():
        written.append(clock[0])
        return ARRAYS

    for _ in range(60):
        checkpoint.save_if_due(state)
        clock[0] += 1.0
    assert written[0] == 105.0  # never at once
    assert all(later - earlier >= 5 for earlier, later in pairwise(written))


def test_a_slow_write_takes_five_percent_at_most(tmp_path, monkeypatch):
    clock = [0.0]

    def savez(path, **_):
        clock[0] += 2.0
        path.write_bytes(b"")

    monkeypatch.setattr(module, "monotonic", lambda: clock[0])
    monkeypatch.setattr(module.np, "savez", savez)
    checkpoint = ArrayCheckpoint(tmp_path / "work.npz", {})
    checkpoint.save({})
    assert checkpoint.next == 2.0 + 20 * 2.0


def test_an_error_saves_and_goes_on_up(tmp_path):
    checkpoint = ArrayCheckpoint(tmp_path / "work.npz", {})
    with pytest.raises(KeyboardInterrupt), checkpoint.saved_on_error(lambda: ARRAYS):
        raise KeyboardInterrupt
    assert same(checkpoint.load()["doubles"], ARRAYS["doubles"])
    checkpoint.close()
    with checkpoint.saved_on_error(lambda: ARRAYS):
        pass
    assert checkpoint.load() is None


def test_fingerprints_tell_bits_apart():
    a = normal(10)
    b = a.clone()
    b[3] = torch.nextafter(b[3], torch.tensor(9.0, dtype=torch.float64))
    assert fingerprint(a) == fingerprint(a.clone()) != fingerprint(b)
    assert fingerprint(normal(4, 3)) != fingerprint(normal(4, 3).T)
