"""Errors of a run on its test set and on what is done to it: as functions, as a command, as columns of a study."""

import json

import pytest
import torch
from click.testing import CliRunner
from data_files import random_images, write_image_folder
from PIL import Image

from landscape.cli import cli
from landscape.data import digits
from landscape.data.corruptions import CORRUPTIONS, corrupt
from landscape.metrics import METRICS
from landscape.study import robustness
from landscape.study.attacks import fgsm
from landscape.study.network_record import Analysis
from landscape.study.robustness import SUMMARY, run_robustness
from landscape.study.study_runner import StudyConfig, grid, run_study
from landscape.training import TrainConfig, load_checkpoint, train
from landscape.training.trainer.evaluation import evaluate, top_error


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    mlp = {"model": "mlp", "model_settings": {"hidden": [16]}, "epochs": 5, "batch_size": 100, "lr": 0.1}
    return train(TrainConfig(folder, **mlp, progress=False))


def test_errors_are_those_of_the_images_that_were_made(run):
    found = run_robustness(run, samples=300, size=0.05, seed=3)
    model, data = load_checkpoint(run)[0], digits()
    x, y = data.test_inputs[:300], data.test_targets[:300]
    assert (found["samples"], found["error"]) == (300, 1 - evaluate(model, x, y)[1])
    assert found["top5_error"] == top_error(model, x, y)
    assert found["fgsm_error"] == 1 - evaluate(model, fgsm(model, x, y, data.pixel_span, size=0.05), y)[1]
    assert found["error"] < found["fgsm_error"] <= found["pgd10_error"]
    black, white = data.pixel_span
    assert ((x - black) / (white - black)).min() == pytest.approx(0, abs=1e-6)
    assert ((x - black) / (white - black)).max() == pytest.approx(1)
    assert list(found["corruptions"]) == list(CORRUPTIONS)
    plain = corrupt((x - black) / (white - black), "contrast", 5, torch.Generator())
    expected = 1 - evaluate(model, black + (white - black) * plain, y)[1]
    assert found["corruptions"]["contrast"][4] == pytest.approx(expected, abs=1 / 300)
    every = [value for values in found["corruptions"].values() for value in values]
    assert found["corruption_error"] == pytest.approx(sum(every) / 45)
    assert run_robustness(run, samples=300, size=0.05, seed=3) == found


def test_it_is_computed_where_training_would_be(run, monkeypatch):
    expected = run_robustness(run, samples=50, corruptions=False)
    assert run_robustness(run, samples=50, corruptions=False, device="cpu") == expected
    options = {option.name: option.default for option in cli.commands["evaluate"].params}
    assert options["device"] == TrainConfig.__dataclass_fields__["device"].default == "auto"
    asked = []
    monkeypatch.setattr(robustness, "device_of", lambda name: asked.append(name) or torch.device("cpu"))
    run_robustness(run, samples=50, corruptions=False)
    assert asked == ["auto"]


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("cuda:7", "device='cuda:7' is not on this machine; take device='auto' or 'cpu'"),
        ("gpu", r"device must be one of \('auto', 'cpu', 'cuda', 'mps'\) or cuda:N, got 'gpu'"),
        ("cuda:", "device must be one of .* or cuda:N, got 'cuda:'"),
        ("cuda:x", "device must be one of .* or cuda:N, got 'cuda:x'"),
    ],
)
def test_a_device_that_is_not_there_is_told(device, words, run):
    with pytest.raises(ValueError, match=f"^{words}"):
        run_robustness(run, device=device)


def test_the_command_prints_and_writes_them(run, tmp_path):
    done = CliRunner().invoke(cli, ["evaluate", str(run), "--samples", "100", "--json", str(tmp_path / "e.json")])
    assert done.exception is None, done.exception
    assert "100 test samples" in done.output
    found = json.loads((tmp_path / "e.json").read_text())
    assert f"pgd10            {100 * found['pgd10_error']:6.2f} %" in done.output
    assert "  pixelate " in done.output
    short = CliRunner().invoke(cli, ["evaluate", str(run), "--no-corruptions"])
    assert "contrast" not in short.output


def test_a_text_has_no_attacks(tmp_path):
    settings = {"sentences": 60, "length": 8}
    model = {"dim": 4, "depth": 1, "heads": 1, "length": 8, "classes": 24}
    text = TrainConfig(tmp_path, "made_text", data_settings=settings, model="char_lm", model_settings=model, epochs=1)
    found = run_robustness(train(text))
    assert set(found) == {"samples", "loss", "error", "top5_error"}


def test_other_images_of_the_same_classes(tmp_path):
    write_image_folder(tmp_path / "data")
    settings = {"model": "mlp", "model_settings": {"in_features": 108, "hidden": [4], "classes": 4}, "epochs": 1}
    run = train(TrainConfig(tmp_path / "run", "folder", str(tmp_path / "data"), **settings, progress=False))
    found, same = (run_robustness(run, images=images, corruptions=False) for images in ("", tmp_path / "data" / "test"))
    assert found == pytest.approx(same)
    pixels, _ = random_images(0, 3, 1, (9, 9, 3))
    (tmp_path / "other" / "class-2").mkdir(parents=True)
    for index, image in enumerate(pixels):  # of another size, one class of four
        Image.fromarray(image).save(tmp_path / "other" / "class-2" / f"{index}.png")
    assert run_robustness(run, images=tmp_path / "other", corruptions=False)["samples"] == 3
    (tmp_path / "other" / "unknown").mkdir()
    with pytest.raises(ValueError, match="must hold the classes of train, got unknown"):
        run_robustness(run, images=tmp_path / "other")


def test_images_without_names_of_classes_are_refused(run, tmp_path):
    with pytest.raises(ValueError, match="images must be of a run on a folder of images, whose classes have names"):
        run_robustness(run, images=tmp_path)
    with pytest.raises(ValueError, match="samples must be an integer at least 1, got 0"):
        run_robustness(run, samples=0)


def test_a_study_has_them_as_columns_and_not_as_metrics(tmp_path):
    mlp = {"model": "mlp", "model_settings": {"hidden": [8]}, "epochs": 1, "batch_size": 400}
    analysis = Analysis(["trace"], samples=50, probes=0, line_points=0, plane_points=0, robustness=80)
    networks = grid(tmp_path, mlp, {"seed": [0, 1]})
    rows = run_study(StudyConfig(networks, analysis, workers=1), progress=False)
    for row, network in zip(rows, networks.values(), strict=True):
        found = run_robustness(network.folder, samples=80)
        assert [row[name] for name in SUMMARY] == [found[name] for name in SUMMARY]
    assert not {*SUMMARY} & METRICS.keys()
    file = next(iter(networks.values())).folder / "robustness.json"
    before = file.stat().st_mtime_ns
    run_study(StudyConfig(networks, analysis, workers=1), progress=False)
    assert file.stat().st_mtime_ns == before
