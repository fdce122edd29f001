"""The files in analysis_scripts/configs for data, networks and tasks of one's own, each on small data."""

from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import random_images, write_image_folder

from landscape.data import load, made_text
from landscape.models import build
from landscape.study import load_run
from landscape.training import TrainConfig, load_checkpoint, read_log, train

ROOT = Path(__file__).parents[2]
TINY = {"dim": 12, "depth": 1, "heads": 3, "patch": 8, "image_size": 16, "in_channels": 3}


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # where the files' relative paths begin


def trained(name: str, folder: Path, **changes: object) -> tuple[TrainConfig, list[dict]]:
    run = TrainConfig.from_yaml(f"analysis_scripts/configs/{name}.yaml", folder=folder, progress=False, **changes)
    train(run)
    return run, read_log(folder)


def images(folder: Path, side: int = 20) -> dict:
    """What a run on a folder of made images has in place of the file's."""
    write_image_folder(folder, side=side)
    return {"data_path": str(folder), "data_settings": {"image_size": 16}, "epochs": 2, "warmup_epochs": 1.0}


def test_a_network_and_data_of_ones_own_learn(tmp_path: Path) -> None:
    run, log = trained("own_network_and_data", tmp_path)
    assert (run.optimizer, run.base) == ("sam", "adamw")
    assert log[-1]["test_loss"] < 0.05 < 0.6 < log[0]["test_loss"]


def test_a_small_vision_transformer_on_a_folder_of_images(tmp_path: Path) -> None:
    settings = TINY | {"classes": 4}
    run, log = trained("vit_tiny_folder_sam", tmp_path / "run", model_settings=settings, **images(tmp_path / "images"))
    assert (run.optimizer, run.base, run.rand_augment, run.clip_norm) == ("sam", "adamw", 2, 1.0)
    assert [row["lr"] for row in log] == [run.lr, run.lr]  # a step of warm-up, then the cosine's first
    model, metadata = load_checkpoint(tmp_path / "run")
    assert metadata["parameters"] == sum(p.numel() for p in model.parameters())
    full = TrainConfig.from_yaml("analysis_scripts/configs/vit_tiny_folder_sam.yaml", folder=tmp_path)
    assert {key: full.model_settings[key] for key in ("dim", "depth", "heads")} == {"dim": 192, "depth": 12, "heads": 3}


def test_fine_tuning_with_a_new_head_begins_at_the_old_body(tmp_path: Path) -> None:
    changes = images(tmp_path / "images")
    trained("vit_tiny_folder_sam", tmp_path / "old", model_settings=TINY | {"classes": 4}, **changes)
    still = changes | {"epochs": 1, "warmup_epochs": 0.0, "lr": 1e-30, "start_from": str(tmp_path / "old")}
    larger = tmp_path / "others"
    write_image_folder(larger)
    for split in ("train", "test"):  # a fifth class
        (larger / split / "class-4").mkdir()
        source = next((larger / split / "class-0").iterdir())
        (larger / split / "class-4" / "image.png").write_bytes(source.read_bytes())
    still |= {"data_path": str(larger)}
    trained("vit_tiny_fine_tune", tmp_path / "new", model_settings=TINY | {"classes": 5}, **still)
    (old, _), (new, metadata) = load_checkpoint(tmp_path / "old"), load_checkpoint(tmp_path / "new")
    assert metadata["fresh"] == ["head.weight", "head.bias"]
    for name, value in old.state_dict().items():
        if not name.startswith("head"):
            torch.testing.assert_close(new.state_dict()[name], value, rtol=0, atol=0)
    assert new.head.out_features == 5


def test_a_stream_of_files_is_trained_on_and_read_back(tmp_path: Path) -> None:
    classes = {"classes": 4}
    for of, count in (("train", 3), ("test", 1)):
        for number in range(count):
            pixels, labels = random_images(number, 20, 4, (3, 8, 8))
            pixels[:, 0] = 80 * labels[:, None, None]  # redder by class
            np.savez(tmp_path / f"{of}-{number}.npz", inputs=pixels, targets=labels)
    settings = {"model_settings": {"form": "cifar", "width": 4, **classes}, "data_settings": classes, "crop": 0}
    data = {"data_path": str(tmp_path), "batch_size": 10, "steps_per_epoch": 6, "epochs": 8, "flip": False}
    run, log = trained("streamed_images", tmp_path / "run", **settings, **data)
    assert (run.workers, run.lazy, len(log)) == (2, True, 8)
    assert log[-1]["test_accuracy"] > 0.9
    loss = load_checkpoint(tmp_path / "run")[1]["train_loss"]
    assert float(load_run(tmp_path / "run").loss()) == pytest.approx(loss, rel=1e-5)


def test_a_character_model_learns_with_sam_and_adamw(tmp_path: Path) -> None:
    run, log = trained("character_model_sam", tmp_path)
    assert (run.optimizer, run.base) == ("sam", "adamw")
    assert run.model_settings["classes"] == made_text().classes
    assert 0.19 < log[-1]["test_loss"] < 0.5  # nats a character; .19 is the text's own, 3.18 chance


@pytest.mark.parametrize(
    ("name", "optimizer"), [("translation_adahessian", "adahessian"), ("translation_ssam", "ssam_f")]
)
def test_a_transformer_learns_to_translate(name: str, optimizer: str, tmp_path: Path) -> None:
    run, log = trained(name, tmp_path)
    assert run.optimizer == optimizer
    assert log[0]["train_loss"] > 1 > 0.1 > log[-1]["test_loss"]  # nats a word; chance is log 8 = 2.08
    assert log[-1]["test_accuracy"] > 0.99


def test_the_translator_sees_no_word_that_it_is_to_say(tmp_path: Path) -> None:
    run = TrainConfig.from_yaml("analysis_scripts/configs/translation_ssam.yaml", folder=tmp_path, epochs=2)
    data = load(run.dataset, settings=run.data_settings)
    words, length = run.data_settings["words"], run.data_settings["length"]
    source, seen = data.train_inputs.split(length, dim=1)
    assert (seen[:, 0] == words).all()
    assert (seen[:, 1:] == data.train_targets[:, :-1]).all()
    table = {int(a): int(b) for a, b in zip(source.flatten(), data.train_targets.flip(1).flatten(), strict=True)}
    assert sorted(table) == sorted(table.values()) == list(range(words))  # one word for each
    assert (torch.tensor([table[int(a)] for a in source.flatten()]).view_as(source).flip(1) == data.train_targets).all()
    model = build(run.model, run.model_settings, 0).double().eval()
    x = data.train_inputs[:4]
    later = x.clone()
    later[:, length + 3] = (later[:, length + 3] + 1) % words  # the decoder's fourth word
    with torch.no_grad():
        one, other = model(x), model(later)
    torch.testing.assert_close(one[..., :3], other[..., :3], rtol=0, atol=0)
    assert (one[..., 3:] - other[..., 3:]).abs().amin((0, 1)).min() > 0
