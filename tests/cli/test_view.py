"""`landscape view` on what other commands leave in folders."""

import json
import re

import pytest
from commands import run
from drawings import bowl, plane

from landscape.storage.manifest import write_json

NAME = "surface-9-1-0"


@pytest.fixture
def runs(tmp_path):
    for name, scale in {"sgd": 3.0, "sgd/epoch-5": 2.0, "sgd/epoch-10": 2.5, "sam": 1.0}.items():
        plane(lambda x, y, scale=scale: scale * bowl(x, y)).save(tmp_path / name / NAME)
    return tmp_path


def spectrum(folder, *values):
    found = {"values": values, "residuals": [1e-3] * len(values), "converged": [True] * len(values), "matvecs": 9}
    write_json(folder / "spectrum-hessian.json", {"eigenvalues": found})


def content(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)[0])


def test_two_runs_stand_side_by_side_with_what_lies_beside_their_surfaces(runs, capsys):
    spectrum(runs / "sgd", 9.0, -1.0)
    spectrum(runs / "sgd" / "epoch-10", 5.0)
    assert run("view", runs / "sgd", f"mine={runs / 'sam'}", "--out", runs / "page.html") == 0
    assert capsys.readouterr().out == f"{runs / 'page.html'}\n"
    found = content(runs / "page.html")
    assert found["labels"] == ["5", "10", "end"]
    assert [network["name"] for network in found["networks"]] == ["sgd", "mine"]
    sgd, mine = (network["frames"] for network in found["networks"])
    assert [frame["own"] for frame in sgd] == [0.02, 0.025, 0.03]
    assert [frame["values"] for frame in sgd] == [[], [5], [9, -1]]
    assert [frame["own"] for frame in mine] == [0.01]


def test_files_of_one_name_are_told_apart(runs):
    files = [runs / name / f"{NAME}.npz" for name in ("sgd", "sam")]
    assert run("view", *files, "--out", runs / "page.html") == 0
    assert [network["name"] for network in content(runs / "page.html")["networks"]] == [str(file) for file in files]


def test_what_cannot_be_shown_is_refused_in_one_line(runs, capsys):
    plane(bowl).save(runs / "sam" / "surface-5-1-0")
    (runs / "empty").mkdir()
    write_json(runs / "sgd" / "spectrum-hessian.json", {})
    for sources, message in {
        ("empty",): "empty holds no surface; landscape slice",
        ("sam",): "surface-5-1-0.npz, surface-9-1-0.npz; name the file in place of the folder",
        ("none.npz",): "a surface must be a file of landscape slice or a folder with one, found no",
        ("sam/epoch", "sam/epoch"): "names must differ",
        ("sgd",): "spectrum-hessian.json must be of landscape spectrum",
    }.items():
        assert run("view", *(runs / source for source in sources), "--out", runs / "page.html") == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert not (runs / "page.html").exists()
