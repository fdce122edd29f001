import hashlib
import json
from math import nan

import pytest
import torch

from landscape.storage.manifest import (
    read_checked,
    read_json,
    read_manifest,
    read_or_none,
    whole,
    write_checked,
    write_json,
    write_rows,
    write_with_manifest,
)
from landscape.storage.results import Estimate


@pytest.fixture
def saved(tmp_path):
    return Estimate(torch.arange(4.0), torch.ones(4)).save(tmp_path / "found")


def test_every_flipped_bit_is_named(saved):
    content = saved.read_bytes()
    for place in range(0, len(content), 7):
        saved.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ValueError, match=r"found\.npz was changed or cut after it was written"):
            Estimate.load(saved)
    saved.write_bytes(content)
    assert whole(saved)


def test_every_changed_digit_of_a_manifest_and_of_a_checked_file_is_named(tmp_path):
    content = {"a": [1.25, nan], "b": {"c": 37}, "d": "text"}
    write_checked(tmp_path / "a.json", content)
    target = write_with_manifest(tmp_path / "b.bin", lambda path: path.write_text("x"), content)
    for read, path in ((read_checked, tmp_path / "a.json"), (read_manifest, target)):
        text = path.with_suffix(".json").read_text()
        assert str(read(path)) == str(content)
        for place in [index for index, letter in enumerate(text[: text.index("sha256")]) if letter in "1257"]:
            path.with_suffix(".json").write_text(text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :])
            with pytest.raises(ValueError, match=f"{path.name} was changed or cut after it was written"):
                read(path)


def test_a_checksum_of_the_bytes_alone_is_of_an_earlier_version(saved):
    manifest = json.loads(saved.with_suffix(".json").read_text())
    manifest["sha256"] = hashlib.sha256(saved.read_bytes()).hexdigest()
    write_json(saved.with_suffix(".json"), manifest)
    assert whole(saved)


def test_a_file_counts_only_with_its_own_manifest(saved):
    manifest = saved.with_suffix(".json")
    text = manifest.read_text()
    manifest.unlink()
    assert not whole(saved)
    with pytest.raises(ValueError, match=r"found\.json must be a readable JSON file"):
        Estimate.load(saved)
    manifest.write_text(text)
    saved.unlink()
    assert not whole(saved)
    with pytest.raises(ValueError, match=r"found\.npz is not readable: No such file or directory; make it again"):
        Estimate.load(saved)


def test_a_kill_between_the_two_files_leaves_no_result_of_both(saved, monkeypatch):
    monkeypatch.setattr("landscape.storage.manifest.write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_with_manifest(saved, lambda path: path.write_text("new"), {})
    assert not whole(saved)


@pytest.mark.parametrize("content", ["", "[" * 100_000, "{", '{"a": ' * 100_000, "[1]"])
def test_a_foreign_json_file_is_one_line(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=r"a\.json must (be a readable JSON file|hold a JSON object)") as caught:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)
    assert read_or_none(tmp_path / "a.json") is None


def test_a_file_that_claims_to_be_huge_is_not_read(tmp_path):
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(2**40)  # no byte of it on the disk
    with pytest.raises(ValueError, match="more than 268435456 bytes"):
        read_json(tmp_path / "a.json")


def test_a_table_is_read_back(tmp_path):
    path = write_rows(tmp_path / "new" / "t.csv", [{"a": 1, "b": 2.5}, {"a": 3, "b": "x,y"}])
    assert path.read_text().splitlines() == ["a,b", "1,2.5", '3,"x,y"']


def test_the_manifest_comes_back_without_the_checksum(tmp_path):
    target = write_with_manifest(tmp_path / "a.bin", lambda path: path.write_text("x"), {"k": [1]})
    assert read_manifest(target) == {"k": [1]}
