import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

import landscape as ls


@pytest.mark.filterwarnings("default")  # what other packages warn of is theirs
def test_a_quick_run_compares_all_packages_and_ends_with_its_table(scripts, tmp_path, capsys):
    from curvature import QUICK, main
    from setting import Config

    config = replace(Config(out=tmp_path / "out", runs=tmp_path / "runs", threads=1), **QUICK)
    found = main(config, memory=False)
    answers = {(row["question"], row["contender"]): row for row in found["answers"]}
    assert set(answers) == {
        (question, contender)
        for question in ("eigenvalues", "trace", "density")
        for contender in ("ours", "pyhessian", "curvlinops")
    }
    assert found["reference"]["difference_from_arpack"] < 1e-9  # two packages in float64, independently
    assert found["reference"]["relative_residual"] < 1e-8
    assert answers["eigenvalues", "ours"]["error"] < config.tol
    assert answers["density", "ours"]["error"] == 0
    assert "failure" in answers["density", "pyhessian"]
    for row in answers.values():
        assert "failure" in row or (row["matvecs"] >= 1 and row["seconds"] > 0 and row["gradient_times"] > 0)
    assert json.loads((config.out / "curvature.json").read_text())["parameters"] == found["parameters"]
    assert {path.name for path in config.out.iterdir()} == {"curvature.json", "curvature.png", "curvature.pdf"}
    assert capsys.readouterr().out.splitlines()[-1].startswith("trace of the digits perceptron to 1 % rms")


@pytest.mark.filterwarnings("default")  # two loading processes may be more than there are cores
def test_a_quick_run_of_slices_agrees_with_the_weights_rebuilt_point_by_point(scripts, tmp_path, capsys):
    from slices import QUICK, Config, main

    config = replace(Config(out=tmp_path / "out"), **QUICK)
    config = replace(config, network=replace(config.network, runs=tmp_path / "runs"))
    found = main(config)
    assert found["difference"] < 1e-5
    assert all(spent > 0 for spent in found["milliseconds_a_point"].values())
    assert {path.name for path in config.out.iterdir()} == {"slices.json", "slices.png", "slices.pdf"}
    assert capsys.readouterr().out.splitlines()[-1].startswith("grid of 5 x 5")


def test_a_quick_run_of_steps_has_every_rule_and_ends_with_its_table(scripts, tmp_path, capsys):
    from steps import QUICK, RULES, Config, main

    found = main(replace(Config(out=tmp_path), **QUICK), memory=False)
    assert set(found["over_sgd"]) == {*RULES, "eigen_sam", "by_hand"}
    assert found["over_sgd"]["sgd"] == found["over_sam"]["sam"] == 1
    assert {path.name for path in tmp_path.iterdir()} == {"steps.json", "steps.png", "steps.pdf"}
    assert capsys.readouterr().out.splitlines()[-1].startswith("SAM written by hand")


def test_sam_written_by_hand_is_the_rule(scripts):
    from steps import Network

    ends = []
    for name in ("by_hand", "rule"):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3)).double()
        network = Network(model, torch.randn(6, 5, dtype=torch.float64), torch.randint(3, (6,)))
        step = network.by_hand if name == "by_hand" else network.step(ls.rules.sam())
        for _ in range(3):
            step()
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(*ends, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("default")
def test_a_process_for_memory_gets_the_same_config(scripts):
    from peak import config_from
    from setting import Config

    config = Config(width=3, sizes=(5, 6))
    assert config_from(json.dumps(asdict(config), default=str)) == config


@pytest.mark.filterwarnings("default")
def test_an_interleaved_run_measures_each_number_here_and_in_another_checkout(scripts, tmp_path, capsys):
    from interleaved import QUICK, main
    from setting import Config

    config = replace(Config(runs=tmp_path / "runs", threads=1), **QUICK)
    here = Path(ls.__file__).parents[1]
    found = main(tmp_path / "out.json", config, only=("small-cnn", "small-top"), threads=(1,), before=here, repeats=1)
    assert json.loads((tmp_path / "out.json").read_text())["rows"] == found["rows"]
    rows = {row["number"]: row for row in found["rows"]}
    assert {"product", "a column among four", "choosing a mode", "top 10", "PyHessian over ours"} <= rows.keys()
    assert all(row["now_over_before"] > 0 for row in found["rows"])
    spent = rows["product"]["seconds"]
    assert rows["product"]["value"] == spent["product"] / spent["gradient"]
    assert rows["top 10"]["answers"]["ours"]["error"] < config.tol
    assert "small-top  ours:" in capsys.readouterr().out


def test_a_bound_that_is_missed_is_said(scripts):
    from interleaved import line

    row = {"section": "grid", "number": "a point", "threads": 1, "unit": "passes", "value": 1.3}
    assert "(<= 1.2, MISSED)" in line(row | {"bound": 1.2})
    assert "(<= 1.4)" in line(row | {"bound": 1.4})
    assert "(>= 1.2)" in line(row | {"bound": -1.2})
    assert "time 1.040 of before SLOWER" in line(row | {"bound": None, "before": 1.0, "now_over_before": 1.04})
    assert "SLOWER" not in line(row | {"bound": None, "before": 1.0, "now_over_before": 1.02})
