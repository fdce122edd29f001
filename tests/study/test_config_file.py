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
        ("a.json", '{"axis": {}}', None, "must have the keys analysis, axes, .*, got axis"),
        ("a.json", '{"analysis": {"metric": []}}', None, "analysis must have the fields of Analysis"),
        ("a.json", "[1]", None, "must hold names and values, got list"),
        ("a.json", "{", None, "must be a readable"),
        ("a.json", "{}", "{}", "--settings belongs to a .csv table"),
        ("a.csv", "", '{"axes": {}}', "must have the keys analysis, families, workers, got axes"),
    ],
)
def test_what_is_no_study_is_named(name: str, text: str, settings: str | None, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    if settings is not None:
        (tmp_path / "settings.json").write_text(settings)
    with pytest.raises(ValueError, match=message):
        read_study(tmp_path / name, tmp_path, tmp_path / "settings.json" if settings is not None else None)
