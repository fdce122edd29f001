"""The search that tunes every row of a comparison: planted errors, edges, the validation split, what is kept."""

import re
from collections import defaultdict
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

import analysis_scripts
import landscape as ls
from analysis_scripts._shared.random_search import Row, Search, at_edge, split, tune
from landscape.data import digits

TINY = {
    "model": "mlp",
    "model_settings": {"hidden": [6], "norm": "batch"},
    "epochs": 2,
    "batch_size": 400,
    "label_noise": 0.4,
}
SEARCH = Search(points=3, rounds=2, most_rounds=2, finalists=2, seeds=(9, 8))


def planted(monkeypatch, tmp_path, search, **functions):
    """`tune` where a network's error is a function of its learning rate and weight decay; what was trained."""
    from analysis_scripts._shared import random_search

    trained = []

    def measured(networks):
        trained.extend(network.seed for network in networks.values())
        return {key: {"error": functions[key[0]](network)} for key, network in networks.items()}

    monkeypatch.setattr(random_search, "measuring", lambda _measure, _workers: nullcontext(measured))
    box = {"lr": (1e-3, 1e-1), "weight_decay": (1e-5, 1e-1)}
    rows = {name: Row(box, lambda point, _: {**TINY, **point}) for name in functions}
    return tune(rows, tmp_path, search), trained


def test_the_search_finds_a_planted_minimum_outside_the_first_box(monkeypatch, tmp_path):
    def error(network):
        return 0.1 + 0.05 * abs(np.log10(network.lr / 0.5)) + 10 * network.weight_decay

    tuned, trained = planted(monkeypatch, tmp_path, Search(points=16, rounds=4, most_rounds=12), row=error)
    own = tuned["row"]
    assert own.point["lr"] == pytest.approx(0.5, rel=0.5)  # five times beyond the end of the box
    assert own.edges == ()
    assert own.points >= 64
    assert own.error == pytest.approx(error(ls.TrainConfig("x", **{**TINY, **own.point})))
    assert len(trained) > own.points  # the finalists have more seeds


def test_rows_try_the_same_points_until_their_errors_differ_and_a_value_that_stays_at_an_edge_is_told(
    monkeypatch, tmp_path
):
    search = Search(points=6, rounds=2, most_rounds=3, finalists=1, seeds=(1, 2))
    tuned, _ = planted(
        monkeypatch, tmp_path, search, up=lambda n: 1 / (1 + n.lr), same=lambda n: 1 / (1 + n.lr), none=lambda n: n.lr
    )
    assert tuned["up"] == tuned["same"]
    assert "lr" in tuned["up"].edges
    assert "lr" in tuned["none"].edges
    assert tuned["up"].points == 18  # three rounds, where two would have been enough inside


def test_a_value_is_at_an_edge_where_fewer_than_two_lie_beyond_and_no_weight_decay_is_none():
    tried = [0.0, 0.1, 0.2, 0.3, 0.4]
    assert [at_edge("radius", value, tried) for value in tried] == [True, True, False, True, True]
    assert [at_edge("weight_decay", value, tried) for value in tried] == [False, True, False, True, True]


def test_tuning_never_sees_the_test_images_and_trains_nothing_twice(tmp_path):
    with np.load(split(tmp_path, 300)) as kept:
        parts = torch.from_numpy(np.concatenate([kept["train_inputs"], kept["test_inputs"]]))
        assert len(kept["test_inputs"]) == 300
    assert torch.equal(parts, digits().train_inputs)
    row = {"own": Row({"lr": (0.01, 0.1)}, lambda point, steps: {**TINY, **point, "momentum": 1 / steps})}
    first = tune(row, tmp_path, SEARCH, batch_size=400, workers=1)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert tune(row, tmp_path, SEARCH, batch_size=400, workers=1) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == times
    assert ls.load_checkpoint(tmp_path / "own" / "0-9")[1]["config"]["momentum"] == pytest.approx(1 / 3)  # 896/400


def test_scripts_that_share_a_search_are_made_one_after_the_other():
    root = Path(analysis_scripts.__file__).parent.parent
    after = dict(
        re.findall(r"^(analysis_scripts\.\S+): (analysis_scripts\.\S+)$", (root / "Makefile").read_text(), re.M)
    )
    sharing = defaultdict(list)
    for path in (root / "analysis_scripts").rglob("*.py"):
        if found := re.search(r"^    command\(main, (\w+)\)", path.read_text(), re.MULTILINE):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            sharing[getattr(getattr(import_module(name), found[1])(), "tuning", name)].append(name)
    assert sorted(map(len, sharing.values()))[-2:] == [3, 5]
    for scripts in sharing.values():
        assert sum(after.get(name) in scripts for name in scripts) == len(scripts) - 1
