import json
from dataclasses import replace
from pathlib import Path

import pytest

from analysis_scripts.sharpness import sharpness_vs_generalization

SCRIPT = vars(sharpness_vs_generalization)
Config = SCRIPT["Config"]


def test_the_full_grid_has_every_axis_and_enough_networks(tmp_path: Path) -> None:
    whole = SCRIPT["study"](replace(Config(), runs=str(tmp_path)))
    assert len(whole.members) >= 120
    assert whole.axes == ["rule", "lr", "batch_size", "weight_decay", "hidden", "label_noise", "seed"]
    assert whole.cluster == whole.axes[:-1]


def test_families_are_variants_of_one_name() -> None:
    found = SCRIPT["families"](("renyi", "renyi_half", "average_gap", "worst_case_gap_fisher", "worst_case_gap"))
    assert found == {
        "Rényi order": ("renyi", "renyi_half"),
        "ball of the worst case": ("worst_case_gap_fisher", "worst_case_gap"),
    }


def test_a_small_run_goes_on_and_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = {name: getattr(Config(), name)[:1] for name in ("batch_size", "weight_decay", "label_noise", "seed")}
    config = Config(
        rules=("sgd", "sam"), hidden=((8,),), epochs=1, samples=100, metrics=("trace", "gradient_norm"), workers=1,
        runs=str(tmp_path / "runs"), folder=str(tmp_path / "out"), **one,
    )  # fmt: skip
    page = SCRIPT["main"](config)
    told = capsys.readouterr().out
    assert "4 networks on 1 processes, 2 metrics each" in told
    kept = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert kept["config"]["epochs"] == 1
    assert kept["verdict"] in told
    assert "trace " in kept["verdict"]
    assert "4 networks were compared, which differ in rule, lr;" in page.read_text()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("m*.*")}
    SCRIPT["main"](config)
    assert "about 0 minutes" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("m*.*")} == before
