from pathlib import Path

import pytest

from landscape.study.config_file import read_study

GRID = """
base: {model: mlp, model_settings: {hidden: [8]}, epochs: 1}
axes:
  optimizer: [sgd, sam]
  weight_decay: [0.0, 0.0005]
analysis: {metrics: [trace], samples: 50}
families: {order: [renyi, trace]}
workers: 1
"""


def test_a_grid_in_yaml(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    (tmp_path / "grid.yaml").write_text(GRID)
    found = read_study(tmp_path / "grid.yaml", tmp_path / "runs")
    assert (len(found.members), found.axes, found.workers) == (4, ["rule", "weight_decay"], 1)
    assert (found.analysis.metrics, found.analysis.samples) == (["trace"], 50)
    assert found.families == {"order": ("renyi", "trace")}


@pytest.mark.parametrize(
    ("name", "text", "settings", "message"),
    [
        ("a.json", '{"axis": {}}', None, "must hold the names analysis, .*, axes, per_optimizer, got axis"),
        (
            "a.json",
            '{"analysis": {"metric": []}}',
            None,
            "analysis must hold the names metrics, .*, got metric",
        ),
        (
            "a.json",
            '{"analysis": {"probes": -1}}',
            None,
            "analysis: probes must be an integer at least 0, got",
        ),
        ("a.json", '{"analysis": 3}', None, "a.json: analysis must hold names and values, got 3"),
        (
            "a.json",
            '{"axes": {"lr": 1}}',
            None,
            "a.json: axes must be a mapping of which each is a list, got",
        ),
        ("a.json", '{"families": {"a": "renyi"}}', None, "families must be a mapping of which each is a list of which"),
        ("a.json", "[1]", None, "must hold names and values, got list"),
        ("a.json", "{", None, "must be a readable"),
        ("a.json", "{}", "{}", "--settings belongs to a .csv table"),
        ("a.csv", "", '{"axes": {}}', "settings.json must hold the names analysis, families, workers, got axes"),
    ],
)
def test_what_is_no_study_is_named(name: str, text: str, settings: str | None, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    if settings is not None:
        (tmp_path / "settings.json").write_text(settings)
    with pytest.raises(ValueError, match=message):
        read_study(tmp_path / name, tmp_path, tmp_path / "settings.json" if settings is not None else None)


def test_a_device_is_that_of_every_training(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(GRID)
    for asked, expected in (({}, "auto"), ({"device": "cpu"}, "cpu")):
        found = read_study(tmp_path / "grid.yaml", tmp_path / "runs", **asked)
        assert {network.run.device for network in found.members.values()} == {expected}
