import pytest

from landscape.storage.atomic import replacing


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
