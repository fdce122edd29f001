"""`landscape spectrum` against the dense spectrum of a small network."""

import csv
import json

import pytest
import torch
from commands import made_in_folder, run
from torch import nn
from torch.nn import functional as F

import landscape as ls
from landscape.cli import spectrum
from landscape.storage.results import SpectralDensity

MINE = """
import torch, landscape as ls
def make_problem():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)).double()
    data = torch.randn(30, 4, dtype=torch.float64), torch.arange(30) % 3
    return ls.Problem(net, torch.nn.functional.cross_entropy, data)
"""
ASKED = ("spectrum", "--problem", "mine.py:make_problem")

pytestmark = pytest.mark.usefixtures("png_only")


@pytest.fixture
def problem(tmp_path, monkeypatch):
    return made_in_folder(MINE, "make_problem", tmp_path, monkeypatch)


def read(stem):
    with open(f"{stem}.csv") as file:  # noqa: PTH123
        return list(csv.DictReader(file))


@pytest.mark.parametrize("matrix", ["hessian", "ggn", "fisher"])
@pytest.mark.parametrize("which", ["LM", "LA", "SA"])
def test_numbers_are_those_of_the_dense_matrix(matrix, which, problem, tmp_path, capsys):
    options = ("--matrix", matrix, "--which", which, "--k", 3, "--steps", 12, "--probes", 3)
    assert run(*ASKED, *options, "--out", "out") == 0
    dense = getattr(ls, matrix)(problem).dense()
    values = torch.linalg.eigvalsh(dense)
    expected = {"LM": values[values.abs().argsort(descending=True)], "LA": values.flip(0), "SA": values}[which][:3]
    (stem,) = (path.with_suffix("") for path in (tmp_path / "out").glob("*.csv"))
    assert matrix in stem.name
    *pairs, total = read(stem)
    for row, value in zip(pairs, expected.tolist(), strict=True):
        assert abs(float(row["value"]) - value) <= float(row["error"]) + 1e-12
        assert row["converged"] == "True"
    assert abs(float(total["value"]) - float(dense.trace())) <= 4 * float(total["error"]) + 1e-9
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].endswith(f"of mine.py:make_problem: {problem.size} parameters, 30 units in 1 batch")
    assert [line.split()[:2] for line in shown[1:4]] == [["eigenvalue", str(i)] for i in (1, 2, 3)]
    assert float(shown[1].split()[2]) == pytest.approx(float(expected[0]), rel=1e-5)
    assert "a product held against differences of gradients: off by" in shown[7]
    density = SpectralDensity.load(stem)
    assert density.nodes.shape == (3, 12)
    assert values[0] - 1e-9 <= density.nodes.min() <= density.nodes.max() <= values[-1] + 1e-9
    manifest = json.loads(stem.with_suffix(".json").read_text())
    assert manifest["eigenvalues"]["values"] == pytest.approx(expected.tolist(), rel=1e-3)
    assert manifest["settings"]["which"] == which
    assert stem.with_suffix(".png").exists()


def test_a_killed_run_goes_on_with_what_is_kept(problem, tmp_path, monkeypatch, capsys):
    assert run(*ASKED, "--out", "whole") == 0
    computed = []

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(spectrum, "trace", killed)
        assert run(*ASKED, "--resume", "kept.jsonl") == 130
    pairs = spectrum.top_eigenpairs
    monkeypatch.setattr(spectrum, "top_eigenpairs", lambda *a, **k: computed.append(1) or pairs(*a, **k))
    for _ in range(2):  # a finished one costs nothing
        assert run(*ASKED, "--resume", "kept.jsonl") == 0
    assert not computed
    assert read("spectrum-hessian") == read("whole/spectrum-hessian")
    one, two = SpectralDensity.load("spectrum-hessian"), SpectralDensity.load("whole/spectrum-hessian")
    torch.testing.assert_close(one.nodes, two.nodes, rtol=1e-12, atol=1e-12)
    capsys.readouterr()
    assert run(*ASKED, "--resume", "kept.jsonl", "--k", 4) == 2
    assert "was written with other k; delete it or name another" in capsys.readouterr().err


def test_what_has_not_converged_is_marked(problem, monkeypatch, capsys):
    pairs = spectrum.top_eigenpairs
    monkeypatch.setattr(spectrum, "top_eigenpairs", lambda *a, **k: pairs(*a, **k, max_matvecs=3))
    assert run(*ASKED, "--k", 3) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("not converged")


def test_of_weights(problem, tmp_path):
    more = "\ndef make_model():\n    return make_problem().model\ndef make_data():\n    return make_problem().data\n"
    (tmp_path / "mine.py").write_text(MINE + more)
    torch.save(nn.Sequential(*problem.model).state_dict(), "w.pt")
    source = ("--weights", "w.pt", "--model", "mine.py:make_model", "--data", "mine.py:make_data")
    for name, asked in (("one", ASKED), ("two", ("spectrum", *source))):
        assert run(*asked, "--k", 2, "--steps", 5, "--out", name) == 0
    assert read("one/spectrum-hessian-k2-steps5") == read("two/spectrum-hessian-k2-steps5")
    assert problem.criterion is F.cross_entropy


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--k", 0), "--k must be an integer at least 1, got 0"),
        (("--matvecs", 3), "--matvecs must be an integer at least 4, got 3"),
        (("--probes", 0), "--probes must be an integer at least 1, got 0"),
        (("--steps", -1), "--steps must be an integer at least 1, got -1"),
        (("--seed", -1), f"--seed must be an integer in [0, {2**63 - 1}], got -1"),
        (("--samples", 3), "--samples belongs to RUN"),
        (("--k", 99), "k must be an integer in [1, 43], got 99"),
        (("--device", "cuda:99"), "device='cuda:99' is not on this machine"),
        (("--resume", "mine.py"), "mine.py holds something else than work to go on with"),
    ],
)
def test_what_does_not_fit_is_one_line(options, said, problem, capsys):
    assert run(*ASKED, *options) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("landscape: ")
    assert said in last
