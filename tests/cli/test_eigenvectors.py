"""Eigenvectors of `landscape spectrum` as the directions of `landscape slice`, against the dense Hessian."""

import json
from pathlib import Path

import pytest
import torch
from commands import made_in_folder, run

import landscape as ls
from landscape.storage.results import EigenPairs, Slice2D

MINE = """
import torch, landscape as ls
def network(seed, hidden):
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(4, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, 3)).double()
    data = torch.randn(30, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), torch.arange(30) % 3
    return ls.Problem(net, torch.nn.functional.cross_entropy, data)
def mine():
    return network(0, 5)
def trained():
    return network(1, 5)
def wider():
    return network(0, 6)
"""
SPECTRUM = ("spectrum", "--problem", "mine.py:mine", "--steps", 4, "--probes", 2, "--matvecs", 6, "--out", "out")
SLICE = ("slice", "--points", 3, "--reach", "0.001", "--out", "out")

pytestmark = pytest.mark.usefixtures("png_only")


@pytest.fixture
def problem(tmp_path, monkeypatch):
    return made_in_folder(MINE, "mine", tmp_path, monkeypatch)


@pytest.mark.parametrize("matrix", ["hessian", "ggn"])
def test_the_loss_bends_along_them_as_the_eigenvalues_say(matrix, problem, capsys):
    assert run(*SPECTRUM, "--k", 3, "--matrix", matrix) == 0
    file = Path(capsys.readouterr().out.splitlines()[-1])
    assert file.name == f"eigenvectors-{matrix}-k3-probes2-steps4-matvecs6.npz"
    pairs, dense = EigenPairs.load(file), getattr(ls, matrix)(problem).dense()
    assert ((dense @ pairs.vectors - pairs.vectors * pairs.values).norm(dim=0) <= pairs.residuals + 1e-12).all()
    assert run(*SLICE, "--problem", "mine.py:mine", "--directions", "out") == 0
    found = Slice2D.load(f"out/surface-3-0.001-{file.stem.removeprefix('eigenvectors-')}")
    loss, h = found.loss["train"], 0.001
    bends = torch.stack([loss[1, 0] - 2 * loss[1, 1] + loss[1, 2], loss[0, 1] - 2 * loss[1, 1] + loss[2, 1]]) / h**2
    H = ls.hessian(problem).dense()
    expected = torch.stack([v @ H @ v for v in pairs.vectors[:, :2].T])
    torch.testing.assert_close(bends / found.norms**2, expected, rtol=1e-4, atol=0.0)
    if matrix == "hessian":
        values = torch.linalg.eigvalsh(H)
        torch.testing.assert_close(expected, values[values.abs().argsort(descending=True)][:2], rtol=1e-6, atol=0.0)
        torch.testing.assert_close(bends, 2 * expected.sign(), rtol=1e-4, atol=0.0)
    assert found.details["kind"] == matrix
    assert abs(float(found.cosine)) < 1e-10


def test_they_are_found_anew_where_a_run_that_goes_on_has_lost_them(problem):
    asked = (*SPECTRUM, "--k", 2, "--resume", "kept.jsonl")
    assert run(*asked) == 0
    (file,) = Path("out").glob("eigenvectors-*.npz")
    first = EigenPairs.load(file)
    file.unlink()
    for _ in range(2):
        assert run(*asked) == 0
        again = EigenPairs.load(file)
        assert again.values.equal(first.values)
        assert again.vectors.equal(first.vectors)
    assert len(Path("kept.jsonl").read_text().splitlines()) == 5  # the settings, three parts, and one of them again


def test_what_does_not_fit_is_one_line(problem, tmp_path, capsys):
    assert run(*SPECTRUM, "--k", 1) == 0
    (one,) = Path("out").glob("eigenvectors-*.npz")
    Path("cut").mkdir()
    cut = Path("cut") / one.name
    cut.write_bytes(one.read_bytes()[:-9])
    cut.with_suffix(".json").write_text(one.with_suffix(".json").read_text())
    Path("empty").mkdir()
    here = ("--problem", "mine.py:mine")
    for arguments, said in {
        (*here, "--directions", "out"): "must hold two eigenvectors, got one; take landscape spectrum --k 2 or more",
        (*here, "--directions", "empty"): "empty holds no eigenvectors; landscape spectrum with --out empty leaves",
        (*here, "--directions", "cut"): "was changed or cut after it was written",
        (*here, "--directions", "none.npz"): "--directions must be what landscape spectrum has left",
        (*here, "--directions", "out", "--seed", 1): "--seed belongs to random directions, got --directions",
        ("--problem", "mine.py:trained", "--directions", "out"): "is of other weights than these",
        ("--problem", "mine.py:wider", "--directions", "out"): "is of a network of 43 parameters, got 51",
    }.items():
        assert run(*SLICE, *arguments) == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("landscape: ")
        assert said in last
    two = tmp_path / "out" / "eigenvectors-two.npz"
    two.write_bytes(one.read_bytes())
    assert run(*SLICE, *here, "--directions", "out") == 2
    assert f"{one.name}, {two.name}; name one" in capsys.readouterr().err
    assert json.loads(one.with_suffix(".json").read_text())["parameters"] == problem.size
    assert not list(Path("out").glob("surface-*"))
