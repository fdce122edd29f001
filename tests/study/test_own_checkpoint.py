import json
import sys
from pathlib import Path

import pytest
import torch
from commands import run

from landscape.cli import main
from landscape.problem import Problem
from landscape.side_effects import global_state
from landscape.study.config_file import read_study
from landscape.study.network_record import Analysis
from landscape.study.own_checkpoint import read_checkpoints
from landscape.study.study_runner import StudyConfig, run_study

# what a user writes: the network with the checkpoint's weights, the criterion, the training data
FACTORY = """
import torch
import landscape as ls

def make_problem(path):
    model = torch.nn.Linear(3, 2)
    model.load_state_dict(torch.load(path, weights_only=True))
    torch.manual_seed(0)
    data = torch.randn(16, 3), torch.arange(16) % 2
    return ls.Problem(model, torch.nn.functional.cross_entropy, data)
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Networks whose gap is a known function of their weights' size, two seeds of each, and one that has diverged."""
    (tmp_path / "mine.py").write_text(FACTORY)
    lines = ["path,factory,lr,seed,train_loss,test_loss,train_accuracy,test_accuracy"]
    for index in range(8):
        torch.manual_seed(index)
        model = torch.nn.Linear(3, 2)
        with torch.no_grad():
            model.weight.mul_(1 + index)
        torch.save(model.state_dict(), tmp_path / f"net{index}.pt")
        chosen, outcome = f"{0.1 * (1 + index // 2):.1f},{index % 2}", f"0.1,{1 + index},1,0.{9 - index}"
        lines.append(f"net{index}.pt,mine.py:make_problem,{chosen},{outcome}")
    torch.save(model.state_dict(), tmp_path / "diverged.pt")
    lines.append("diverged.pt,mine.py:make_problem,0.1,2,nan,0.2,1,1")
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(lines))
    return path


def test_a_row_gives_its_problem_and_its_hyper_parameters(table: Path, tmp_path: Path) -> None:
    networks = read_checkpoints(table, tmp_path / "runs")
    assert list(networks) == [*(f"net{index}" for index in range(8)), "diverged"]
    third = networks["net3"]
    assert third.chosen == {"lr": 0.2, "seed": 1}
    outcome = {"train_loss": 0.1, "test_loss": 4.0, "train_accuracy": 1.0, "test_accuracy": 0.6}
    assert third.columns() == {"lr": 0.2, "seed": 1, **outcome}
    problem = third.problem(None, 600)
    assert isinstance(problem, Problem)
    weights = torch.load(tmp_path / "net3.pt", weights_only=True)
    assert torch.equal(problem.vector(), torch.cat([weights["weight"].flatten(), weights["bias"]]))
    with pytest.raises(ValueError, match="the factory chooses its data"):
        third.problem(10, 600)


@pytest.mark.usefixtures("png_only")
def test_the_command_takes_the_table(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text('{"analysis": {"metrics": ["gradient_norm", "lambda_max"], "probes": 0}, "workers": 1}')
    arguments = ["study", table, "--runs", tmp_path / "runs", "--out", tmp_path / "out", "--settings", settings]
    monkeypatch.setattr(sys, "argv", ["landscape", *map(str, arguments)])
    main()
    assert "9 networks" in (told := capsys.readouterr().out)
    assert "1 failed and are named there" in told
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Network diverged failed and is in no number here: train: train_loss must be finite, got nan" in page
    assert page.count("<img ") == 4  # tau, scatter, psi, ranks
    assert "of the gap in error. By chance: mean" in page  # nothing is weighted: the size of the test set is not known
    rows = (tmp_path / "out" / "metrics.csv").read_text().splitlines()
    assert len(rows) == 9
    kept = json.loads((tmp_path / "runs" / "net3" / "metrics.json").read_text())
    problem = read_checkpoints(table, tmp_path / "runs")["net3"].problem(None, 600)
    assert kept["estimates"]["gradient_norm"]["value"] == pytest.approx(float(problem.gradient().norm()), rel=1e-6)


def test_a_table_is_checked_whole_before_the_first_network_is_measured(table, tmp_path, monkeypatch, capsys):
    (tmp_path / "raising.py").write_text("1 / 0")
    lines = ["gone.pt,mine.py:make_problem", "net1.pt,mine.py:make", "net2.pt,other.py:f", "no/net.pt,raising.py:f"]
    text = table.read_text()
    rows = [f"{line},0.1,{seed},0.1,0.2,1,1,n{seed}" for seed, line in enumerate(lines, start=3)]
    head, *before = text.splitlines()
    table.write_text("\n".join([f"{head},name", *(f"{line},{i}" for i, line in enumerate(before)), *rows]))
    asked = []
    monkeypatch.setattr("landscape.cli.study.run_study", lambda *_, **__: asked.append(1))
    assert run("study", table, "--runs", tmp_path / "runs", "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"mine.csv, line 11: no file {tmp_path / 'gone.pt'}; line 12: factory must name a function in" in error
    assert "line 13: factory must name a file that exists, got" in error
    assert error.endswith(f"; and 1 more; paths are relative to the table's folder, {tmp_path}\n")
    assert not asked
    table.write_text("\n".join([f"{head},name", f"net1.pt,raising.py:f{rows[0][len(lines[0]) :]}"]))
    with pytest.raises(ValueError, match=r"line 2: factory .*raising.py:f cannot be had: ZeroDivisionError: division"):
        read_study(table, tmp_path / "runs")
    assert list(read_study(table, tmp_path / "runs", files=False).members) == ["n3"]  # as a report reads it


def test_one_wrong_factory_is_told_once(table, tmp_path):
    table.write_text(table.read_text().replace("make_problem", "make_problme"))
    with pytest.raises(ValueError, match=r"line 2 and 8 more: factory must name .*, got 'make_problme'$"):
        read_study(table, tmp_path / "runs")
    table.write_text(table.read_text().replace("mine.py", "there/mine.py"))
    with pytest.raises(ValueError, match=r"line 2 and 8 more: factory must name a file that exists.*are relative"):
        read_study(table, tmp_path / "runs")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_factory_is_tried_before_the_first_network_is_measured(table, tmp_path, capsys, monkeypatch, workers):
    """Unless a network of it has been measured."""
    (tmp_path / "mine.py").write_text(FACTORY.replace("Linear(3, 2)", "Linear(4, 2)"))
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"analysis": {"metrics": ["gradient_norm"], "probes": 0}, "workers": workers}))
    asked = []
    monkeypatch.setattr("landscape.cli.study.run_study", lambda *_, **__: asked.append(1))
    monkeypatch.setattr("landscape.cli.study.report_study", lambda *_, **__: tmp_path)
    command = ["study", table, "--runs", tmp_path / "runs", "--out", tmp_path / "out", "--settings", settings]
    before = global_state()
    assert run(*command) == 2
    assert global_state() == before
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    where = f"line 2: factory {tmp_path / 'mine.py'}:make_problem fails for {tmp_path / 'net0.pt'}: RuntimeError: Error"
    assert where in error
    assert "size mismatch for weight" in error
    assert not asked
    (tmp_path / "runs" / "net5").mkdir(parents=True)
    (tmp_path / "runs" / "net5" / "metrics.json").write_text("{}")
    assert run(*command) == 0
    assert asked


def test_networks_are_measured_on_the_device_asked_for(table, tmp_path, monkeypatch):
    places = []
    monkeypatch.setattr("landscape.study.own_checkpoint.move", lambda problem, place: places.append(place) or problem)
    for device in ("auto", "cpu"):
        read_study(table, tmp_path / "runs", device=device).members["net3"].problem(None, 600)
    assert places == [torch.device("cpu")]  # auto is where the factory puts it


def test_a_factory_that_was_mended_is_tried_again_and_its_old_numbers_are_not_kept(table: Path, tmp_path: Path) -> None:
    table.write_text("\n".join(table.read_text().splitlines()[:4]))
    analysis = Analysis(["gradient_norm"], probes=0)

    def norms() -> list[float]:
        config = StudyConfig(read_checkpoints(table, tmp_path / "runs"), analysis, workers=1)
        return [row["gradient_norm"] for row in run_study(config, progress=False)]

    factory = tmp_path / "mine.py"
    factory.write_text(FACTORY.replace("torch.arange(16) % 2", "torch.arange(9) % 2"))
    with pytest.raises(ValueError, match="no network of the study came through; the first: measure: "):
        norms()
    factory.write_text(FACTORY)
    first = norms()
    factory.write_text(FACTORY.replace("cross_entropy, data", "cross_entropy, data, parameters=['bias']"))
    assert all(after < before for before, after in zip(first, norms(), strict=True))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,lr\na.pt,1", "the columns path, factory, train_loss, test_loss; missing factory, .*; got path, lr$"),
        ("path,factory,train_loss,test_loss\na,f.py:f,1,x", "line 2: test_loss must be a number, got 'x'"),
        ("path,factory,train_loss,test_loss\na,f.py:f,1,", "line 2: train_loss and test_loss must be numbers"),
        ("path,factory,train_loss,test_loss\na,f.py:f,1", "line 2: needs 4 columns"),
        ("path,factory,train_loss,test_loss\na,f.py:f,1,2\nb/a,f.py:f,1,2", "line 3: the name 'a' occurs twice"),
        ("path,factory,train_loss,test_loss", "must hold at least one row"),
        ("path,factory,train_loss,test_loss\nb/A,f.py:f,1,2\na,f.py:f,1,2", "line 3: the name 'a' occurs twice"),
        ("path,factory,train_loss,test_loss,code\na,f.py:f,1,2,3", "must not have a column code"),
        *(
            (f"path,factory,train_loss,test_loss,name\na,f.py:f,1,2,{name}", "line 2: name must be that of a folder in")
            for name in ("../x", "/tmp/x", "..", ".", "a/b", "a/", "..\\x")
        ),
    ],
)
def test_a_bad_table_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_checkpoints(tmp_path / "table.csv", tmp_path)
