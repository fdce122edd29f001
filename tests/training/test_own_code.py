"""Networks and data of the user's own code in the bundled trainer, and what reads the run in another process."""

import subprocess
import sys
from types import ModuleType

import pytest
import torch
from training_cases import config

from landscape.models import build
from landscape.study.network_record import load_run
from landscape.training import load_checkpoint, train

SCRIPT = """
from __future__ import annotations
from dataclasses import dataclass
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from landscape.data import digits

@dataclass
class Shape:
    width: int = 6

def network(width=6):
    widths = [Shape(width).width] * int(torch.ones(2).sum().item())
    return nn.Sequential(nn.Flatten(), nn.Linear(64, widths[0]), nn.Tanh(), nn.Linear(widths[1], 10))

def pairs(path="none"):
    assert path in ("none", "here")
    d = digits()
    return (d.train_inputs, d.train_targets), (d.test_inputs, d.test_targets)

def sets():
    return tuple(TensorDataset(*part) for part in pairs())

def items():
    return tuple(list(zip(x, y.tolist())) for x, y in pairs())

class Items(list):
    classes = range(12)

def twelve():
    return tuple(Items(part) for part in items())

def loaders():
    return tuple(DataLoader(part, batch_size=100) for part in sets())

def images():
    return digits()

def number():
    return 3

def floats():
    return [(torch.ones(4, 2), torch.ones(4))] * 2

def shapes():
    return (torch.ones(4, 2), torch.ones(4).long()), (torch.ones(4, 3), torch.ones(4).long())

def lists():
    return [[([0.5, k], k) for k in range(3)]] * 2

def negative():
    return [(torch.ones(4, 2), -torch.ones(4).long())] * 2
"""


@pytest.fixture
def script(tmp_path):
    (tmp_path / "mine.py").write_text(SCRIPT)
    return tmp_path / "mine.py"


@pytest.mark.parametrize("sets", ["pairs", "sets", "items", "loaders", "images"])
def test_every_form_of_own_data_gives_the_run_on_the_bundled_data(sets, script, tmp_path):
    own = {"model": f"{script}:network", "model_settings": {"width": 5}, "epochs": 1, "label_noise": 0.0}
    run = train(config(tmp_path / "a", **own, dataset=f"{script}:{sets}"))
    found, metadata = load_checkpoint(run)
    expected, same = load_checkpoint(train(config(tmp_path / "b", **own)))
    assert all(torch.equal(p, q) for p, q in zip(found.parameters(), expected.parameters(), strict=True))
    assert metadata["test_loss"] == same["test_loss"]


def test_a_run_is_read_back_in_another_process_and_folder(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = {"model": "mine.py:network", "model_settings": {"width": 5}, "dataset": "mine.py:pairs", "data_path": "here"}
    train(config("run", **own, epochs=1))
    code = "from landscape.study.network_record import load_run as f; print(float(f('../run').loss()))"
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) == float(load_run(tmp_path / "run").loss())


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ("number", r"must give \(train, test\), .*, got int"),
        ("floats", r"must give a whole-numbered target for each input, at least one, got torch.float32 \(4,\)"),
        ("shapes", r"must have inputs of one shape, got \(2,\) and \(3,\)"),
        ("lists", r"must give a tensor or an array for each input, got list"),
        ("negative", r"labels must be in \[0, 0\), got -1 to -1"),
        ("twelve", r"model must have classes=12 outputs"),
    ],
)
def test_what_is_no_data_is_named(sets, message, script, tmp_path):
    with pytest.raises(ValueError, match=message):
        train(config(tmp_path / "run", dataset=f"{script}:{sets}"))


def test_what_is_no_network_is_named(script):
    with pytest.raises(ValueError, match=r"mine.py:number must be a torch.nn.Module, got int"):
        build(f"{script}:number", {}, 0)
    with pytest.raises(ValueError, match=r"cannot be built with {'deep': 1}: network\(\) got an unexpected"):
        build(f"{script}:network", {"deep": 1}, 0)


def library(name, **members):
    module = ModuleType(name)
    vars(module).update(members)
    return module


def test_timm_and_torchvision_make_their_networks(monkeypatch):
    def make(name, **settings):
        return torch.nn.Linear(settings["num_classes"], len(name))

    monkeypatch.setitem(sys.modules, "timm", library("timm", create_model=make))
    monkeypatch.setitem(sys.modules, "torchvision.models", library("torchvision.models", get_model=make))
    monkeypatch.setitem(sys.modules, "torchvision", library("torchvision"))
    for library_name in ("timm", "torchvision"):
        assert build(f"{library_name}:vit", {"num_classes": 5}, 0).weight.shape == (3, 5)


@pytest.mark.parametrize("name", ["timm", "torchvision"])
def test_a_library_that_does_not_load_is_told_in_one_line(name, monkeypatch):
    for module in (name, f"{name}.models"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ImportError, match=rf"model {name}:NAME needs {name}: .*landscape-toolkit\[networks\]"
    ) as caught:
        build(f"{name}:resnet18", {}, 0)
    assert "\n" not in str(caught.value)
    with pytest.raises(ImportError, match=rf"needs {name}"):  # before a folder is claimed
        config("none", model=f"{name}:resnet18", model_settings={})


def test_all_labels_may_be_noise(tmp_path):
    assert config(tmp_path, label_noise=1.0).label_noise == 1.0
