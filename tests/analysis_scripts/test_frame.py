"""What all scripts share: options, published files; every script says what it can be told."""

import json
import runpy
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from analysis_scripts._shared.frame import command, publish
from landscape.storage.manifest import read_manifest

ROOT = Path(__file__).parents[2] / "analysis_scripts"
ROOMS = ("toys", "training", "sharpness", "landscapes")
FILES = [file for room in ROOMS for file in sorted((ROOT / room).glob("*.py"))]
SCRIPTS = [f"analysis_scripts.{file.parent.name}.{file.stem}" for file in FILES if "__main__" in file.read_text()]


@dataclass(frozen=True)
class Config:
    rates: tuple[float, ...] = (0.1,)
    steps: int = 3
    folder: str = "somewhere"


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_has_its_config_as_options(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module(name, run_name="__main__")
    told = capsys.readouterr().out
    assert "--folder YAML" in told
    assert f"figures/{name.rpartition('.')[2]}" in told


@pytest.mark.parametrize(
    ("given", "expected"),
    [([], Config()), (["--rates", "[5e-4, 1]", "--steps", "4"], Config((5e-4, 1.0), 4)), (["--steps", "few"], None)],
)
def test_options_make_the_config(given, expected, monkeypatch, capsys):
    got = []
    monkeypatch.setattr(sys, "argv", ["script", *given])
    with pytest.raises(SystemExit) as ended:
        command(got.append, Config)
    assert (got, ended.value.code) == (([expected], 0) if expected else ([], 2))
    if not expected:
        assert "steps Input should be a valid integer" in capsys.readouterr().err


def test_what_is_published_is_config_versions_numbers_data_and_figure(tmp_path):
    config = Config(folder=str(tmp_path / "new"))
    figures = []

    def draw():
        figures.append(Figure())
        return figures[0]

    content = publish(
        config, "a", {"sentence": "All is well."}, draw, arrays={"x": torch.arange(3)}, formats=("png", "pdf")
    )
    assert list(content) == ["config", "versions", "sentence", "seconds", "cpu_seconds"]
    folder = tmp_path / "new"
    assert {path.name for path in folder.iterdir()} == {"a.json", "a.npz", "a.png", "a.pdf"}
    assert json.loads((folder / "a.json").read_text())["config"] == {"rates": [0.1], "steps": 3, "folder": str(folder)}
    with Image.open(folder / "a.png") as image:
        assert image.mode == "P"  # a palette
        assert image.size == tuple(int(180 * inches) for inches in figures[0].get_size_inches())
    with np.load(folder / "a.npz") as data:
        assert data["x"].tolist() == [0, 1, 2]
    assert figures[0].get_supxlabel() == "All is well."
    changed = (folder / "a.npz").read_bytes()[:-1]
    (folder / "a.npz").write_bytes(changed)
    with pytest.raises(ValueError, match="was changed or cut after it was written"):
        read_manifest(folder / "a.npz")


def test_a_caption_says_of_which_networks_and_data_it_is():
    from analysis_scripts._shared.described import described
    from analysis_scripts.training.label_noise import Config

    assert described(Config(seeds=(0,))) == (
        "Perceptron with layers of 64 and 64, batch norm with stored statistics, digits, 30 epochs, 1 seed."
    )
    setting = {"model": "vit", "label_noise": 0.2, "stop_at_loss": 0.05}
    told = described(Config(setting=setting))
    assert told == (
        "ViT of 4 blocks and width 32, digits with 20 % wrong training labels, trained to a loss of 0.05, 5 seeds."
    )
    assert described(Config(setting={"model": "mlp", "model_settings": {"hidden": [8]}}, seeds=())) == (
        "Perceptron with a layer of 8, no batch norm, digits."
    )
    assert described(object()) == ""
