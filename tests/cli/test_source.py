"""The three ways to name a network on the command line, and what is answered where they do not fit."""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch
from commands import run
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import landscape as ls
from landscape.cli.source import Source
from landscape.training.trainer.device import curvature_device

MINE = """
import torch, landscape as ls
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

def make_model():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))

def images(count):
    torch.manual_seed(count)
    return TensorDataset(torch.rand(count, 1, 4, 3), torch.arange(count) % 2)

def both():
    return {"train": images(16), "test": DataLoader(images(8), batch_size=3)}

def two_loaders():
    return DataLoader(images(16), batch_size=5), images(8)

def one_batch():
    return images(16).tensors

def squared(outputs, targets):
    return (outputs - F.one_hot(targets, 2)).square().mean()

def make_problem():
    model = make_model()
    model.load_state_dict(torch.load("w.pt"))
    splits = {"train": [images(16).tensors], "test": [images(8).tensors]}
    return ls.Problem(model, F.cross_entropy, images(16).tensors), splits

def asks(path):
    return path
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder with weights and the code they belong to; the problem at these weights."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        torch.manual_seed(16)
        data = torch.rand(16, 1, 4, 3), torch.arange(16) % 2
    torch.save(model.state_dict(), "w.pt")
    return ls.Problem(model.eval(), F.cross_entropy, data)


def of_weights(**changes):
    return Source(**{"weights": "w.pt", "model": "mine.py:make_model", "data": "mine.py:both", **changes})


@pytest.mark.parametrize("data", ["both", "two_loaders", "one_batch"])
def test_weights_with_network_and_data_are_the_problem(data, mine):
    problem, splits = of_weights(data=f"mine.py:{data}").open()
    assert torch.equal(problem.vector(), mine.vector())
    torch.testing.assert_close(problem.loss(), mine.loss(), rtol=1e-6, atol=0)
    assert list(splits) == (["train"] if data == "one_batch" else ["train", "test"])
    if data != "one_batch":
        assert problem.with_data(splits["test"]).extent.units == 8
        assert isinstance(splits["test"], DataLoader)


def test_losses_by_name_and_of_ones_own(mine):
    x, y = mine.data[0]
    for loss in ("mine.py:squared", "cross_entropy"):
        expected = F.cross_entropy(mine.model(x), y) if loss == "cross_entropy" else squared(mine.model(x), y)
        torch.testing.assert_close(of_weights(loss=loss).open()[0].loss(), expected.detach())


def squared(outputs, targets):
    return (outputs - F.one_hot(targets, 2)).square().mean()


@pytest.mark.usefixtures("png_only")
def test_every_command_takes_every_source(mine):
    shown = []
    for source in (["--problem", "mine.py:make_problem"], weights_with()):
        assert run("analyze", *source, "--metrics", "gradient_norm", "--device", "cpu", "--json", "a.json") == 0
        assert run("slice", *source, "--points", 3, "--out", "s") == 0
        assert run("evaluate", *source, "--no-corruptions", "--json", "e.json") == 0
        found = [json.loads(Path(file).read_text()) for file in ("a.json", "e.json")]
        shown.append([found[0]["rows"][0]["value"], found[1]["error"], found[1]["fgsm_error"]])
        assert found[0]["run"] == source[1]
    assert shown[0] == pytest.approx(shown[1], rel=1e-6)
    assert shown[0][0] == pytest.approx(float(mine.gradient().norm()), rel=1e-6)


WEIGHTS = {"--weights": "w.pt", "--model": "mine.py:make_model", "--data": "mine.py:both"}


def weights_with(**changes):
    return [part for pair in {**WEIGHTS, **{f"--{k}": v for k, v in changes.items()}}.items() for part in pair]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "one of RUN, --problem and --weights is needed, got several or none"),
        (["--weights", "w.pt"], "--weights, --model and --data belong together, got a part"),
        (["w.pt", "--weights", "w.pt"], "one of RUN, --problem and --weights"),
        (weights_with(model="mine.py:both"), "must be a torch.nn.Module, got dict"),
        (weights_with(model="mine.py:asks"), "is called without arguments: missing a required argument: 'path'"),
        (weights_with(data="no.py:f"), "--data must name a file that exists"),
        (weights_with(weights="v.pt"), "weights must be a run folder or a file of weights, found no file v.pt"),
        (weights_with(loss="mse"), "--loss must be one of cross_entropy, "),
        (["--problem", "mine.py:make_problem", "--device", "cuda:99"], "device='cuda:99' is not on this machine"),
        (["--problem", "mine.py:make_problem", "--device", "tpu"], "device must be one of"),
        (["v.pt"], "found no file v.pt"),
        (["mine.py"], "RUN must be a folder of landscape train, got a file, mine.py; or take --problem"),
    ],
)
def test_a_source_that_does_not_fit_is_one_line(arguments, said, mine, capsys):
    assert run("analyze", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("landscape: ")
    assert said in error
    assert error.count("\n") == 1


def hugging_face(folder, head):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": [head], "model_type": "x"}))
    save_file({"1.weight": torch.ones(2, 12)}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("name", "make", "kind", "ending"),
    [
        ("w.pt", lambda path: None, "image-classifier", ""),
        ("my run.ckpt", lambda path: path.write_bytes(b"x"), "lightning", " --loss problem.py:criterion"),
        ("w.safetensors", lambda path: save_file({"a": torch.ones(1)}, path), "image-classifier", ""),
        ("gpt", lambda path: hugging_face(path, "GPT2LMHeadModel"), "huggingface", " --loss causal_lm"),
        ("bert", lambda path: hugging_face(path, "BertForSequenceClassification"), "huggingface",
         " --loss sequence_classification"),
    ],
)  # fmt: skip
def test_weights_as_run_are_met_with_the_command_that_would_work(name, make, kind, ending, mine, tmp_path, capsys):
    make(tmp_path / name)
    for command in ("analyze", "slice", "evaluate", "spectrum"):
        assert run(command, name) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"landscape init {kind} --out problem.py" in error
        told = f"--weights {shlex.quote(name)} --model problem.py:make_model --data problem.py:make_data{ending}\n"
        assert error.endswith(f"then landscape {command} {told}")


def test_the_command_that_is_told_works(mine, tmp_path, capsys):
    assert run("analyze", "w.pt") == 2
    told = re.search(r"then landscape (.*)", capsys.readouterr().err)[1]
    (tmp_path / "problem.py").write_text(MINE + "\nmake_data = both\n")
    assert run(*shlex.split(told), "--metrics", "gradient_norm") == 0


def test_the_command_that_is_told_keeps_the_options_that_were_given(mine, capsys):
    options = "--directions 'found here' --split train --split 'a b' --check"
    assert run("slice", "w.pt", *shlex.split(options)) == 2
    assert f"then landscape slice {options} --weights w.pt --model" in capsys.readouterr().err


def test_a_folder_of_checkpoints_and_a_file_of_a_run(mine, tmp_path, capsys):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "epoch=3.ckpt").write_bytes(b"x")
    assert run("analyze", "checkpoints") == 2
    assert "--weights checkpoints/epoch=3.ckpt --model" in capsys.readouterr().err
    (tmp_path / "run").mkdir()
    for file in ("model.json", "model.safetensors"):
        (tmp_path / "run" / file).write_text("{}")
    assert run("analyze", "run/model.safetensors") == 2
    assert "got a file in it; take run\n" in capsys.readouterr().err


def test_mps_is_refused_for_its_precision(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(ValueError, match="device='mps' has no float64"):
        curvature_device("mps")
    assert curvature_device("auto").type in ("cpu", "cuda")
