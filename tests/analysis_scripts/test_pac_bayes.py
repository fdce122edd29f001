"""PAC-Bayes numbers of a few networks: a closed form, the claims, and a small run."""

import json
from math import exp, log, sqrt

import pytest
import torch

from analysis_scripts.sharpness import pac_bayes as script


def test_the_slides_complexity_by_hand() -> None:
    w, n, rho, delta = torch.tensor([3.0, 4.0]), 100, 0.5, 0.05  # |w|² / rho² = 100, k = 2
    inner = 1 + 100 * (1 + sqrt(log(100))) ** 2
    right = (1 + 2 * log(inner) + 2 * log(2000) + 4 * log(606)) / 396
    assert script.slides_complexity(w, n, rho, delta) == pytest.approx(sqrt(right), rel=1e-9)
    assert script.slides_complexity(0 * w, 2, 1.0, exp(-1)) == pytest.approx(
        sqrt((1 + 2 * log(2 * exp(1)) + 4 * log(18)) / 4)
    )


def test_a_small_run_tells_of_each_bound_and_of_what_cannot_be_computed(tmp_path) -> None:
    config = script.Config(
        rules={"sgd": {}}, seeds=(0, 1, 2), sigma=(0.1,), draws=2, workers=1,
        setting={"model": "mlp", "model_settings": {"hidden": [2]}, "epochs": 1},
        runs=str(tmp_path / "runs"), folder=str(tmp_path / "out"),
    )  # fmt: skip
    found = script.main(config)
    assert set(found["tau"]) == set(script.BOUNDS)
    for row in found["rows"]:
        assert row["error_gap"] <= row["error"] <= 1
        assert all(row[name] > 0 for name in script.BOUNDS)
    claims = json.loads((tmp_path / "out" / "pac_bayes.json").read_text())["claims"]
    assert [own["verdict"] for own in claims[-2:]] == ["cannot say"] * 2
    assert "cannot be computed from the text" in claims[-2]["found"]


def test_a_bound_below_the_test_error_is_told() -> None:
    row = dict.fromkeys(script.BOUNDS, 0.5) | {"error": 0.2, "loss": 0.6}
    taus = {name: script.ls.correlate([{"x": i, "y": i} for i in range(4)], ["x"], "y")["x"] for name in script.BOUNDS}
    verdicts = [own.verdict for own in script.claims([row] * 3, taus)]
    assert verdicts == ["differs"] * 2 + ["agrees"] * 4 + ["cannot say"] * 2
