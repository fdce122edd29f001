"""`landscape report`: one network from any source, and a study from the folder of its page."""

import json
import shutil

import pytest
from commands import run

from landscape.study.config_file import read_study

MINE = """
import torch, landscape as ls
def make_problem():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))
    return ls.Problem(net, torch.nn.functional.cross_entropy, (torch.randn(30, 4), torch.arange(30) % 3))
"""
SMALL = ("--quick", "--metrics", "gradient_norm,weight_norm")


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_problem_gets_its_page(here, capsys):
    assert run("report", "--problem", f"{here}/mine.py:make_problem", *SMALL, "--output", "new/page.html") == 0
    assert capsys.readouterr().out.splitlines() == ["new/page.html"]
    text = (here / "new/page.html").read_text()
    assert "How sharp is mine.py:make_problem?" in text
    assert text.count('<th scope="row">gradient norm</th>') == 1
    assert "worst case gap" not in text
    assert str(here) not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "one of RUN, --problem and --weights is needed"),
        (
            ("--problem", "mine.py:make_problem", "--runs", "a"),
            "--runs, --out and --settings belong to a study's CONFIG",
        ),
        (("grid.json",), "grid.json is of a study, which needs --runs and --out"),
        (("nets",), "nets holds the networks of a study; take landscape report CONFIG --runs nets --out FOLDER"),
        (("old",), "old does not say what it was made from; run again what made it, landscape demo or landscape study"),
        (("moved",), "runs/demo, where the results of the study were kept, is not there; run again what made it"),
        (("found",), "found holds results, and the network is needed; take landscape report --problem mine.py:make"),
        (("found/surface.json",), "take landscape report --problem mine.py:make"),
        (("weighed",), "take landscape report --weights nets/w.pt --model FILE.py:FUNCTION --data FILE.py:FUNCTION"),
        (("--problem", "mine.py:make_problem", "--metrics", "none_such"), "metrics must be among"),
        (("--problem", "mine.py:make_problem", "--samples", "0"), "--samples must be"),
        (("nothing.pt",), "RUN must be a folder of landscape train"),
    ],
)
def test_a_mistake_is_one_line(here, arguments, message, capsys):
    (here / "grid.json").write_text("{}")
    (here / "old").mkdir()
    (here / "nets/one").mkdir(parents=True)
    (here / "nets/one/metrics.json").write_text("{}")
    (here / "old/study.json").write_text("{}")
    for name, content in {
        "moved/study.json": {"made_from": {"config": None, "runs": "../runs/demo", "settings": None}},
        "found/surface.json": {"run": "mine.py:make"},
        "weighed/spectrum-hessian.json": {"run": "nets/w.pt"},
    }.items():
        (here / name).parent.mkdir()
        (here / name).write_text(json.dumps(content))
    assert run("report", *arguments) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in last
    assert not list(here.glob("*.html"))


@pytest.mark.usefixtures("png_only")
def test_the_folder_of_a_study_is_enough_wherever_it_is_moved(here, monkeypatch, capsys):
    (here / "grid.json").write_text(
        '{"base": {"model": "mlp", "model_settings": {"hidden": [4]}, "epochs": 1, "batch_size": 600},'
        ' "axes": {"lr": [0.1, 0.2, 0.3]}, "workers": 1,'
        ' "analysis": {"metrics": ["weight_norm"], "samples": 50, "probes": 0, "line_points": 0, "plane_points": 0}}'
    )
    assert run("study", "grid.json", "--runs", "runs", "--out", "out") == 0
    page = here / "out/report.html"
    first = page.read_bytes()
    made = {"config": "../grid.json", "runs": "../runs", "settings": None}
    assert json.loads((here / "out/study.json").read_text())["made_from"] == made
    page.unlink()
    assert run("report", "out") == 0
    assert page.read_bytes() == first
    for place in ("demo", "report"):
        monkeypatch.setattr(
            f"landscape.cli.{place}.demo_study", lambda runs, **_: read_study(here / "grid.json", here / runs)
        )
    assert run("demo", "--runs", "runs", "--out", "demo") == 0
    page = here / "demo/report.html"
    first = page.read_bytes()
    page.unlink()
    assert run("report", "demo") == 0
    assert page.read_bytes() == first
    network = next((here / "runs").glob("*seed*"), None) or next(path for path in (here / "runs").iterdir())
    shutil.rmtree(here / "out")
    assert run("report", network, "--samples", 40, *SMALL) == 0
    assert "Look: " not in (network / "report.html").read_text().partition("<dt>slice")[0]
    assert f"{network}/report.html" in capsys.readouterr().out
