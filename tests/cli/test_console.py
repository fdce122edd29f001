import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import run
from data_files import write_cifar

from landscape.cli import cli
from landscape.cli.analyze import _seconds
from landscape.cli.demo import METRICS as DEMO_METRICS
from landscape.cli.demo import demo_study
from landscape.metrics import METRICS
from landscape.storage.results import Slice2D
from landscape.study.network_record import load_run
from landscape.study.trained import Trained
from landscape.training import TrainConfig

TRAIN = ["--model", "mlp", "--model-set", "hidden=[8]", "--epochs", "1", "--batch-size", "400", "--label-noise", "0.2"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "sam"
    assert run("train", folder, *TRAIN, "--optimizer", "sam", "--rule-set", "rho=0.1", "--no-cosine") == 0
    return folder


def test_the_commands_of_the_contract_are_there():
    assert set(cli.commands) == {
        "train", "evaluate", "analyze", "spectrum", "slice", "view", "study", "report", "demo", "init",
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "landscape", "--help"], capture_output=True, text=True, check=True)
    assert "The geometry of trained neural networks" in done.stdout


def test_names_are_completed(monkeypatch, capsys):
    for words, expected in (("landscape sp", "plain,spectrum"), ("landscape init p", "plain,pinn")):
        monkeypatch.setenv("_LANDSCAPE_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
        assert run() == 0
        assert capsys.readouterr().out.split() == [expected]


def test_train_takes_the_rules_settings(trained):
    config = (trained / "config.json").read_text()
    assert '"rho": 0.1' in config
    assert '"cosine": false' in config


def test_the_wide_network_of_the_papers_trains_on_files(tmp_path):
    write_cifar(tmp_path / "cifar-10-batches-bin")
    data = ["--dataset", "cifar10", "--data-path", tmp_path / "cifar-10-batches-bin", "--crop", 4, "--flip"]
    model = ["--model", "wrn", "--model-set", "depth=10", "--model-set", "widen=2", "--model-set", "in_channels=3"]
    rule = ["--optimizer", "sam", "--rule-set", "rho=0.05", "--cutout", 16, "--mixup", 0.2, "--epochs", 1]
    assert run("train", tmp_path / "run", *data, *model, *rule) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert [config[name] for name in ("crop", "flip", "cutout", "mixup")] == [4, True, 16, 0.2]
    assert run("analyze", tmp_path / "run", "--metrics", "gradient_norm") == 0
    (tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin").write_bytes(b"cut short")
    assert run("analyze", tmp_path / "run", "--metrics", "gradient_norm") == 2


def test_analyze_prints_a_table_and_writes_it(trained, tmp_path, capsys):
    asked = ["--metrics", "lambda_max, gradient_norm", "--samples", 100, "--checkpoint", tmp_path / "kept.jsonl"]
    files = ["--csv", tmp_path / "a.csv", "--json", tmp_path / "a.json"]
    assert run("analyze", trained, *asked, *files) == 0
    shown = capsys.readouterr()
    told = r"about 21-129 gradient-times of \S+ s, \S+ s in all: gradient_norm 0, lambda_max 21-129"
    assert re.match(told, shown.err)
    lines = shown.out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["metric", "lambda_max", "gradient_norm"]
    assert lines[1].endswith("100 units in 1 batch")
    assert lines[-3].startswith("in all")
    assert re.match(r"products held against differences of gradients or outputs: off by \S+ at most", lines[-2])
    assert lines[-1].startswith("alone: ")
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["metric"] for row in rows[:2]] == ["lambda_max", "gradient_norm"]
    assert float(rows[0]["value"]) > 0
    assert json.loads((tmp_path / "a.json").read_text())["rows"][0]["value"] == float(rows[0]["value"])
    assert run("analyze", trained, *asked) == 0
    assert capsys.readouterr().out.splitlines()[1:3] == lines[1:3]  # from the checkpoint, costs and times included


def test_an_interrupt_promises_no_more_than_is_kept(trained, monkeypatch, capsys):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("landscape.cli.analyze.analyze", interrupted)
    assert run("analyze", trained) == 130
    assert "goes on from what is kept (analyze and spectrum keep with --resume)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "a.json"), "[Errno 28] No space left on device: 'a.json'; make room"),
        (torch.OutOfMemoryError("out of\nmemory"), "out of memory; take fewer samples"),
        (RuntimeError("shapes do not fit"), "shapes do not fit; raised by the network, its loss or torch"),
    ],
)
def test_what_the_machine_or_the_network_raises_is_one_line(error, said, trained, monkeypatch, capsys):
    def raising(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("landscape.cli.analyze.analyze", raising)
    capsys.readouterr()
    assert run("analyze", trained) == 2
    found = capsys.readouterr().err
    assert found.startswith(f"landscape: {said}")
    assert found.count("\n") == 1


def test_budgets_are_times():
    assert [_seconds(text) for text in (None, "60", "60s", "1.5m", "2h")] == [None, 60, 60, 90, 7200]
    with pytest.raises(ValueError, match="--budget must be a time such as 60s, 5m or 1h, got 'fast'"):
        _seconds("fast")


def test_slice_writes_data_and_figures(trained, tmp_path):
    assert run("slice", trained, "--out", tmp_path, "--points", 5) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert {"surface-5-1-0.npz", "surface-5-1-0-train.png", "surface-5-1-0-test.pdf"} <= names
    assert not [name for name in names if "walk" in name or "partial" in name]
    details = Slice2D.load(tmp_path / "surface-5-1-0").details
    assert (details["normalize"], details["ignore"], details["seed"]) == ("filter", "bias_norm", 0)


def test_slice_has_other_directions_looks_and_splits(trained, tmp_path):
    other = ["--normalize", "model", "--ignore", "none", "--split", "test", "--style", "li2018", "--surface"]
    assert run("slice", trained, "--out", tmp_path, "--points", 3, *other) == 0
    stem = "surface-3-1-0-model-ignore-none-test"
    expected = {f"{stem}.npz", f"{stem}.json"} | {
        f"{stem}-test{kind}.{end}" for kind in ("", "-3d") for end in ("png", "pdf")
    }
    assert {path.name for path in tmp_path.iterdir()} == expected
    found = Slice2D.load(tmp_path / stem)
    assert list(found.loss) == ["test"]
    problem = load_run(trained)
    assert found.norms.tolist() == pytest.approx([float(problem.vector().norm())] * 2, rel=1e-5)


def test_slice_leaves_out_the_caption_on_request(trained, tmp_path):
    high = {}
    for told in ("on", "off"):
        assert run("slice", trained, "--out", tmp_path, "--points", 3, "--split", "train", "--caption", told) == 0
        (png,) = tmp_path.glob("*.png")
        high[told] = int.from_bytes(png.read_bytes()[20:24], "big")
    assert high["off"] < high["on"]  # a figure grows by the height of its caption


def test_slice_checks_the_plot_that_is_there(trained, tmp_path, capsys):
    slice_it = ("slice", trained, "--out", tmp_path, "--points", 5, "--split", "train")
    assert run(*slice_it, "--check") == 0
    assert "train: both axes walked again are the same, bit for bit" in capsys.readouterr().out
    wrong = Slice2D.load(tmp_path / "surface-5-1-0-train")
    wrong.loss["train"][2, 2] += 1.0
    wrong.save(tmp_path / "surface-5-1-0-train")
    assert run(*slice_it, "--check") == 0
    assert "LOOK  centre" in capsys.readouterr().out


def test_slice_of_a_subset_to_where_the_loss_has_grown(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    # of an automatic range; 51 would take seconds
    for module in ("landscape.slices.evaluation.axis", "landscape.cli.slice"):
        monkeypatch.setattr(f"{module}.POINTS", 5)
    slice_it = ["slice", "--problem", "mine.py:make_problem", "--points", 5]
    assert run(*slice_it, "--reach", "auto", "--subset", 5) == 0
    found = Slice2D.load(tmp_path / "surface-5-auto-0-subset-5")
    assert len(found.x) == len(found.y) == 5
    assert (found.loss_stderr["train"] > 0).all()
    assert run(*slice_it, "--reach", "far") == 2
    assert "--reach must be a number or 'auto', got 'far'" in capsys.readouterr().err
    assert run(*slice_it, "--reach", "auto", "--points", 9) == 2
    assert "--reach auto takes 5 points, got 9" in capsys.readouterr().err


def test_a_problem_of_the_users_own(tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    assert run("slice", "--problem", "mine.py:make_problem", "--points", 3) == 0
    assert (tmp_path / "surface-3-1-0-train.png").exists()
    assert run("analyze", "--problem", "mine.py:make_problem", "--metrics", "gradient_norm") == 0
    assert "\ngradient_norm " in capsys.readouterr().out


OWN = """
import torch, landscape as ls
def make_problem():
    torch.manual_seed(0)
    data = torch.randn(8, 3), torch.arange(8) % 2
    return ls.Problem(torch.nn.Linear(3, 2), torch.nn.functional.cross_entropy, data)
"""


@pytest.mark.usefixtures("png_only")
def test_study_and_report_make_the_same_page(tmp_path):
    config = tmp_path / "small.json"
    config.write_text(
        '{"base": {"model": "mlp", "model_settings": {"hidden": [8]}, "epochs": 1, "batch_size": 600},'
        ' "axes": {"optimizer": ["sgd", "sam"], "seed": [0, 1]}, "workers": 1,'
        ' "analysis": {"metrics": ["gradient_norm"], "samples": 100, "probes": 2, "steps": 4,'
        ' "line_points": 3, "plane_points": 3}}'
    )
    where = ["--runs", tmp_path / "runs", "--out", tmp_path / "out"]
    assert run("study", config, *where) == 0
    page = tmp_path / "out" / "report.html"
    first = page.read_bytes()
    page.unlink()
    assert run("report", config, *where) == 0
    assert page.read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "{tmp}/run", "--optimizer", "adam"], "optimizer must be one of"),
        (["train", "{tmp}/run", "--rule-set", "rho"], "settings must be KEY=VALUE, got 'rho'"),
        (["analyze", "{tmp}/nothing"], "model.safetensors"),
        (["analyze", "{tmp}/run", "--csv", "/dev/null/a.csv"], "the output folder must be writable, got /dev/null"),
        (["slice", "{tmp}/nothing"], "model.safetensors"),
        (["slice"], "one of RUN, --problem and --weights is needed, got several or none"),
        (
            ["analyze", "{tmp}", "--problem", "a.py:f"],
            "one of RUN, --problem and --weights is needed, got several or none",
        ),
        (["analyze", "--problem", "a.py:f", "--samples", "3"], "--samples belongs to RUN"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(arguments, message, tmp_path, capsys):
    assert run(*(text.format(tmp=tmp_path) for text in arguments)) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("landscape: ")
    assert message in error
    assert "\n" not in error


def test_networks_of_a_study_are_measured_on_the_device_of_training_if_one_was_named(trained, monkeypatch):
    places = []
    monkeypatch.setattr("landscape.study.trained.move", lambda problem, place: places.append(place) or problem)
    for device in ("auto", "cpu"):
        Trained(TrainConfig(folder=trained, device=device)).problem(10, 10)
    assert places == [torch.device("cpu")]


@pytest.mark.parametrize("command", [("demo",), ("study", "grid.json")])
def test_a_device_that_is_not_there_is_told_before_anything_is_made(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.json").write_text("{}")
    assert run(*command, "--runs", "runs", "--out", "out", "--device", "cuda:99") == 2
    assert "device='cuda:99' is not on this machine" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_demo_is_the_study_of_the_issue(tmp_path):
    study = demo_study(tmp_path)
    assert len(study.members) == 12
    assert {network.run.optimizer for network in study.members.values()} == {
        "sgd", "sam", "asam", "fisher_sam", "gsam", "eigen_sam",
    }  # fmt: skip
    assert all(m.run.label_noise == 0.2 and m.run.model == "resnet" for m in study.members.values())
    assert set(DEMO_METRICS) <= set(METRICS)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("analyze", "--samples", 0), "--samples must be an integer at least 1, got 0"),
        (("analyze", "--samples", -5), "--samples must be an integer at least 1, got -5"),
        (("analyze", "--metrics", ""), "--metrics must name at least one, got ''; leave it out for all"),
        (("analyze", "--metrics", " , "), "--metrics must name at least one, got ' , '; leave it out for all"),
        (("analyze", "--seed", -1), f"--seed must be an integer in [0, {2**63 - 1}], got -1"),
        (("analyze", "--budget", "-5s"), "budget must be positive and finite, got -5.0"),
        (("analyze", "--budget", "nan"), "budget must be positive and finite, got nan"),
        (("slice", "--points", -3), "--points must be an integer at least 2, got -3"),
        (("slice", "--subset", -1), "--subset must be an integer at least 1, got -1"),
        (("slice", "--workers", 0), "--workers must be an integer at least 1, got 0"),
        (("slice", "--seed", 2**70), f"--seed must be an integer in [0, {2**63 - 1}], got {2**70}"),
        (("slice", "--reach", "-1"), "--reach must be positive and finite, got -1.0"),
        (("slice", "--reach", "inf"), "--reach must be positive and finite, got inf"),
        (("demo", "--workers", -2), "workers must be an integer at least 1, got -2"),
    ],
)
def test_sizes_and_lists_are_checked(command, said, trained, tmp_path, capsys):
    capsys.readouterr()
    where = (["--runs", tmp_path / "a"] if command[0] == "demo" else [trained]) + ["--out", tmp_path / "b"]
    where = where[:1] if command[0] == "analyze" else where
    assert run(command[0], *where, *command[1:]) == 2
    assert capsys.readouterr().err == f"landscape: {said}\n"


def test_a_metric_that_fails_is_named_below_the_others(tmp_path, capsys):
    (tmp_path / "speech.py").write_text(
        "import torch\nfrom torch.nn import functional as F\nfrom landscape import Problem\n"
        "def ctc(z, t):\n"
        "    return F.ctc_loss(z.log_softmax(2).transpose(0, 1), t, torch.full((4,), 12), torch.full((4,), 3))\n"
        "def make():\n"
        "    return Problem(torch.nn.Linear(4, 6), ctc, [(torch.ones(4, 12, 4), torch.ones(4, 3, dtype=torch.long))])\n"
    )
    asked = ["--metrics", "weight_norm,spectral_norms,margin", "--problem", f"{tmp_path / 'speech.py'}:make"]
    assert run("analyze", *asked) == 2  # margin is no metric of a problem alone
    asked[1] = "weight_norm,worst_case_gap_normalized_l2"
    capsys.readouterr()
    assert run("analyze", *asked) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].startswith("weight_norm")
    assert shown[-1].startswith("left out worst_case_gap_normalized_l2: normalised logits need outputs with an axis")
