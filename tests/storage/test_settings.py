from math import nan

import pytest

from landscape.storage.settings import as_json, differing, read_settings

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGED = BOMB + "z: {<<: [*i, *i]}\n"


@pytest.mark.parametrize("text", [BOMB, MERGED, "a: &a [*a]", "[" * 10_000, "a: {b: " * 5_000])
def test_alias_bombs_and_depth_are_one_line(tmp_path, text):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"s\.yaml must be a readable YAML file: ") as caught:
        read_settings(tmp_path / "s.yaml")
    assert len(str(caught.value)) < 400


def test_a_few_aliases_and_merges_are_read(tmp_path):
    (tmp_path / "s.yaml").write_text("base: &b {lr: 5e-4}\nown: {<<: *b, epochs: 3}\ntwice: [*b, *b]\n")
    assert read_settings(tmp_path / "s.yaml")["own"] == {"lr": 5e-4, "epochs": 3}


def test_a_file_too_large_is_not_read(tmp_path):
    (tmp_path / "s.yaml").write_text("#" * 2**21)
    with pytest.raises(ValueError, match="more than 1048576 bytes"):
        read_settings(tmp_path / "s.yaml")


@pytest.mark.parametrize(
    ("found", "own", "other"),
    [
        ({"a": 1, "b": (1, 2)}, {"b": [1, 2], "a": 1.0}, {}),
        ({"a": nan, "b": {"c": nan}}, {"a": nan, "b": {"c": nan}}, {}),
        ({"a": 1, "gone": 2}, {"a": 3, "new": 4}, {"a": 1, "gone": 2, "new": None}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}, {}),
        ({"a": {"x": 1}}, {"a": {"x": 2}}, {"a": {"x": 1}}),
    ],
)
def test_settings_are_the_same_where_a_file_could_not_tell_them_apart(found, own, other):
    assert differing(found, own) == other
    assert differing(as_json(found), own) == other
