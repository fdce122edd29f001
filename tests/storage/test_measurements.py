import csv
import json

import pytest
import torch

from landscape.storage.results import Estimate, Measurements
from landscape.storage.results.measurements import Spent


def estimate(values, stderr, cost: float) -> Estimate:
    value = torch.tensor(values, dtype=torch.float64)
    return Estimate(value, torch.full_like(value, stderr), gradient_times=cost, seconds=2 * cost, data="9 units")


@pytest.fixture
def found() -> Measurements:
    estimates = {"one": estimate(0.1 + 0.2, 0.0, 1.0), "layers": estimate([2.0, -3.0], 0.25, 2.0)}
    return Measurements(estimates, {"leading eigenpairs": Spent(5.0, 7.0)}, {"third": "does not apply"})


def test_rows_hold_each_number_and_each_cost_once(found):
    rows = found.rows()
    names = ["one", "layers[0]", "layers[1]", "shared: leading eigenpairs"]
    assert [row["metric"] for row in rows] == names
    assert [row["value"] for row in rows] == [0.1 + 0.2, 2.0, -3.0, None]
    assert [row["gradient_times"] for row in rows] == [1, 2, 0, 5]
    assert [row["share"] for row in rows] == [1 / 8, 2 / 8, 0, 5 / 8]
    assert sum(row["seconds"] for row in rows) == found.seconds == 13
    assert found.gradient_times == 8


def test_the_table_is_aligned_and_names_what_is_missing(found):
    lines = str(found).splitlines()
    assert lines[2].split() == ["layers[0]", "2", "±", "0.25", "2.0", "2.0", "25.0%", "4.0", "9", "units"]
    ends = [
        line.index(number) + len(number)
        for line, number in zip(lines[1:5], ("12.5%", "25.0%", " 0.0%", "62.5%"), strict=True)
    ]
    assert len(set(ends)) == 1
    assert lines[5].split() == ["in", "all", "8.0", "13.0"]
    assert lines[6] == "left out third: does not apply"


def test_files_hold_the_rows_to_the_bit(found, tmp_path):
    with found.to_csv(tmp_path / "new" / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["value"] for row in rows] == ["0.30000000000000004", "2.0", "-3.0", ""]
    content = json.loads(found.to_json(tmp_path / "a.json", seed=3).read_text())
    assert content["rows"] == found.rows()
    assert content["left_out"] == {"third": "does not apply"}
    assert content["seed"] == 3
    assert content["details"]["one"] == {}


def test_what_has_not_converged_is_marked(found, tmp_path):
    open_, done = (Estimate.exact(2.0, converged=converged) for converged in (0.0, 1.0))
    table = Measurements({"open": open_, "done": done, **found}, {}, {"third": "does not apply"})
    assert table.not_converged == ["open"]
    assert [row["converged"] for row in table.rows()] == [False, True, None, None, None]
    lines = str(table).splitlines()
    assert [line.split()[1:3] for line in lines[1:3]] == [["2", "*"], ["2", "0.0"]]
    assert lines[7] == "* has not converged: give it more steps or products"
    with table.to_csv(tmp_path / "a.csv").open() as file:
        assert [row["converged"] for row in csv.DictReader(file)] == ["False", "True", "", "", ""]


def test_an_estimate_saved_before_there_were_costs_loads(tmp_path):
    path = estimate(1.0, 0.5, 2.0).save(tmp_path / "old")
    manifest = json.loads(path.with_suffix(".json").read_text())
    for name in ("gradient_times", "seconds", "data"):
        del manifest["fields"][name]
    del manifest["sha256"]
    path.with_suffix(".json").write_text(json.dumps(manifest))
    old = Estimate.load(path)
    assert (old.value, old.gradient_times, old.seconds, old.data) == (1.0, None, None, "")


def test_a_metric_alone_costs_the_shared_work_too():
    shared = {"leading eigenpairs": Spent(5.0, 7.0), "spectral density": Spent(8.0, 1.0)}
    uses = {"two": ["leading eigenpairs", "spectral density"], "three": ["one", "unknown"]}
    named = {"one": estimate(0.5, 0.0, 1.0), "two": estimate([2.0, 3.0], 0.0, 0.0), "three": estimate(4.0, 0.0, 2.0)}
    table = Measurements(named, shared, {}, uses)
    assert [row["alone"] for row in table.rows()] == [1.0, 13.0, 0.0, 3.0, None, None]
    assert table.gradient_times == 16.0  # what was done is counted once
    assert str(table).splitlines()[2].split()[:4] == ["two[0]", "2", "13.0", "0.0"]
    assert "alone: gradient-times of a metric by itself, shared work in it" in str(table)
