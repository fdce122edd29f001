"""Every problem file of `landscape init`, with its marked lines filled in, runs and has the loss it says it has."""

import ast
import re
import shlex

import pytest
import torch
from commands import run
from torch import nn
from torch.nn import functional as F

from landscape.cli.init import BODIES, MARK
from landscape.problem.plugin import load_problem

NETWORK = "torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))"
SETS = "torch.manual_seed(3); train = test = torch.utils.data.TensorDataset(torch.randn(9, 12), torch.arange(9) % 2)"
FILLED = {  # kind to what stands in the place of its marked lines, one after another; None leaves the line
    "image-classifier": [None, f"return {NETWORK}", SETS],
    "lightning": ["WEIGHTS = 'last.ckpt'", f"return {NETWORK}", SETS, None],
    "own": [None, f"return {NETWORK}", SETS, None, None, None, None],
    "pinn": [
        None,
        "BOUNDARY = 2.0",
        "return torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))",
        None,
        "inside, boundary, values = torch.linspace(0, 1, 7)[:, None], torch.tensor([[0.0], [1.0]]), torch.ones(2, 1)",
    ],
    "huggingface": [
        None,
        None,
        "FOLDER = 'checkpoint'",
        "import torch, transformers; ids = [torch.tensor([1, 2, 3]), torch.tensor([4, 5])]; "
        "collate = lambda rows: {'input_ids': torch.nn.utils.rnn.pad_sequence(rows, True), "
        "'labels': torch.nn.utils.rnn.pad_sequence(rows, True, -100)}; samples = ids",
    ],
}


def fill(path, kind):
    """Put the lines in, as a user does with an editor."""
    lines, given = path.read_text().splitlines(), iter(FILLED[kind])
    for i, line in enumerate(lines):
        if MARK in line:
            text = next(given)
            lines[i] = line if text is None else re.match(r"\s*", line)[0] + text
    assert next(given, "none left") == "none left"
    path.write_text("\n".join(lines))


def network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 2))


def data():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return torch.randn(9, 12), torch.arange(9) % 2


@pytest.fixture
def made(tmp_path, monkeypatch, capsys):
    """A function: the problem file of a kind, filled in, in whose folder the test runs."""
    monkeypatch.chdir(tmp_path)

    def make(kind):
        assert run("init", kind) == 0
        told = capsys.readouterr().out
        assert (
            told
            == "problem.py: fill in the lines marked <--, then landscape spectrum --problem problem.py:make_problem\n"
        )
        fill(tmp_path / "problem.py", kind)
        with torch.random.fork_rng(devices=[]):
            return load_problem("problem.py:make_problem")

    return make


@pytest.mark.parametrize("kind", ["image-classifier", "own", "lightning"])
def test_classifiers(kind, made):
    model = network()
    torch.save(model.state_dict(), "weights.pt")
    torch.save({"epoch": 1, "state_dict": {f"net.{k}": v for k, v in model.state_dict().items()}}, "last.ckpt")
    problem, splits = made(kind)
    x, y = data()
    torch.testing.assert_close(problem.loss(), F.cross_entropy(model(x), y).detach(), rtol=1e-6, atol=0)
    assert list(splits) == ["train", "test"]
    assert run("analyze", "--problem", "problem.py:make_problem", "--metrics", "gradient_norm") == 0


def test_a_physics_informed_network(made):
    model = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
    torch.save(model.state_dict(), "weights.pt")
    problem, _ = made("pinn")
    x = torch.linspace(0, 1, 7)[:, None].requires_grad_()
    u = model(x)
    (du,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (ddu,) = torch.autograd.grad(du.sum(), x)
    ends = model(torch.tensor([[0.0], [1.0]])) - 1
    expected = (ddu + u).square().mean() + 2 * ends.square().mean()
    torch.testing.assert_close(problem.loss(), expected.detach(), rtol=1e-5, atol=0)
    for matrix in ("hessian", "ggn"):
        asked = ("--matrix", matrix, "--k", 2, "--steps", 4, "--probes", 2)
        assert run("spectrum", "--problem", "problem.py:make_problem", *asked) == 0


def gpt2():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=6, n_positions=5, n_embd=4, n_layer=1, n_head=2)
    return transformers.GPT2LMHeadModel(config).eval()


def test_hugging_face_and_the_command_for_its_folder(made, capsys):
    model = gpt2()
    model.save_pretrained("checkpoint")
    capsys.readouterr()
    problem, _ = made("huggingface")
    batch = {"input_ids": torch.tensor([[1, 2, 3], [4, 5, 0]]), "labels": torch.tensor([[1, 2, 3], [4, 5, -100]])}
    torch.testing.assert_close(problem.loss(), model(**batch).loss.detach(), rtol=1e-6, atol=0)
    assert problem.extent.units == 3
    assert run("analyze", "checkpoint", "--metrics", "gradient_norm") == 2
    told = capsys.readouterr().err.strip().rpartition("then landscape ")[2]
    assert told.endswith("--loss causal_lm")
    assert run(*shlex.split(told), "--metrics", "gradient_norm") == 0
    value = float(capsys.readouterr().out.splitlines()[1].split()[1])
    assert value == pytest.approx(float(problem.gradient().norm()), rel=1e-4)


def test_the_command_for_a_checkpoint_of_lightning_works(made, capsys):
    torch.save({"epoch": 1, "state_dict": {f"net.{k}": v for k, v in network().state_dict().items()}}, "last.ckpt")
    made("lightning")
    assert run("analyze", "last.ckpt") == 2
    told = capsys.readouterr().err.strip().rpartition("then landscape ")[2]
    assert run(*shlex.split(told), "--metrics", "gradient_norm") == 0


@pytest.mark.parametrize("kind", list(BODIES))
def test_a_file_that_is_not_filled_in_says_so(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if kind == "huggingface":
        gpt2().save_pretrained("checkpoint")
    assert run("init", kind, "--out", "mine.py") == 0
    text = (tmp_path / "mine.py").read_text()
    ast.parse(text)
    assert max(map(len, text.splitlines())) <= 120
    capsys.readouterr()
    assert run("analyze", "--problem", "mine.py:make_problem") == 2
    assert re.search(r"(^|\n)landscape: mine.py: fill in make_\w+\n$", capsys.readouterr().err)


def test_nothing_is_overwritten(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "problem.py").write_text("mine")
    for options, said in (
        ([], "problem.py is there already; choose another --out"),
        (["--out", "a.txt"], "--out must end in .py, got a.txt"),
        (["--out", "no/a.py"], "--out must lie in a folder that exists, got no/a.py"),
        (["transformer"], "'transformer' is not one of"),
    ):
        assert run("init", *options) == 2
        assert said in capsys.readouterr().err
    assert (tmp_path / "problem.py").read_text() == "mine"
