"""A folder of images by class, and a Hugging Face data set on disk, whose library a stand-in takes the place of."""

import shutil
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from data_files import random_images, write_image_folder
from PIL import Image

from landscape.data import lazy_images, load
from landscape.data.image_folder import as_pixels
from landscape.study.network_record import load_run
from landscape.study.robustness import run_robustness
from landscape.training import TrainConfig, load_checkpoint, train


def test_val_serves_as_the_test_set_and_may_lack_classes(tmp_path):
    write_image_folder(tmp_path)
    expected = load("folder", str(tmp_path))
    (tmp_path / "test").rename(tmp_path / "val")
    shutil.rmtree(tmp_path / "val" / "class-0")
    data = load("folder", str(tmp_path))
    assert data.class_names == ("class-0", "class-1", "class-2", "class-3")
    assert torch.equal(data.test_targets, expected.test_targets[expected.test_targets > 0])


def test_images_of_any_size_are_resized_and_their_middle_is_taken(tmp_path):
    write_image_folder(tmp_path)
    Image.fromarray(np.full((9, 20, 3), 7, np.uint8)).save(tmp_path / "train" / "class-0" / "wide.PNG")
    with pytest.raises(ValueError, match=r"wide.PNG must be an image of shape \(3, 6, 6\) \(or give image_size\), got"):
        load("folder", str(tmp_path))
    assert load("folder", str(tmp_path), settings={"image_size": 4}).train_inputs.shape == (13, 3, 4, 4)


def test_the_middle_is_the_middle():
    stripes = np.repeat(np.arange(12, dtype=np.uint8) * 20, 6)[None].repeat(24, 0)[..., None].repeat(3, 2)  # 24 x 72
    assert np.array_equal(as_pixels(Image.fromarray(stripes), 24, False)[0, 0], stripes[0, 24:48, 0])


def test_grey_images_have_one_channel_and_palettes_three(tmp_path):
    write_image_folder(tmp_path)
    for file in (tmp_path / "train" / "class-0").iterdir():
        Image.open(file).convert("P").save(file)
    assert load("folder", str(tmp_path)).train_inputs.shape[1] == 3
    assert load("folder", str(tmp_path), settings={"grey": True}).train_inputs.shape[1] == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: shutil.rmtree(path / "test"), "must be a folder with train and test in it, found no such two in"),
        (lambda path: (path / "test" / "other").mkdir(), "must hold the classes of train, got other"),
        (lambda path: [p.unlink() for p in (path / "test").rglob("*.png")], "must hold a folder of images for each"),
        (lambda path: (path / "train" / "class-1" / "x.png").write_bytes(b"<html>"), "x.png must be an image, got an"),
    ],
)
def test_a_broken_folder_is_named(damage, message, tmp_path):
    write_image_folder(tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        load("folder", str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_run_on_a_folder_is_read_back_with_its_settings(tmp_path):
    write_image_folder(tmp_path / "data")
    settings = {"model": "resnet18", "model_settings": {"form": "cifar", "width": 1, "classes": 4}, "epochs": 1}
    data = {"dataset": "folder", "data_path": str(tmp_path / "data"), "data_settings": {"image_size": 4}}
    run = train(TrainConfig(tmp_path / "run", **data, **settings, batch_size=6, progress=False))
    loss = load_checkpoint(run)[1]["train_loss"]
    assert float(load_run(run).loss()) == pytest.approx(loss, rel=1e-6)


class Split(list):
    column_names = ("img", "label")

    def __getitem__(self, key):
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)


def stand_in(monkeypatch, saved):
    module = ModuleType("datasets")
    module.load_from_disk = lambda path: saved
    monkeypatch.setitem(sys.modules, "datasets", module)


def saved_images():
    sets = [random_images(seed, count, 4, (6, 6, 3)) for seed, count in ((0, 12), (1, 8))]
    splits = [Split({"img": Image.fromarray(x), "label": int(y)} for x, y in zip(*part, strict=True)) for part in sets]
    return sets, {"train": splits[0], "validation": splits[1]}


def test_a_hugging_face_data_set_is_its_images(tmp_path, monkeypatch):
    sets, saved = saved_images()
    stand_in(monkeypatch, saved)
    data = load("huggingface", str(tmp_path))
    black, white = data.span
    restored = (data.test_inputs - black) / (white - black) * 255
    np.testing.assert_allclose(restored.numpy(), sets[1][0].transpose(0, 3, 1, 2), atol=1e-3)
    assert (data.train_targets.tolist(), data.classes) == (sets[0][1].tolist(), 4)


def test_a_hugging_face_data_set_without_tests_or_library_is_told(tmp_path, monkeypatch):
    stand_in(monkeypatch, {"train": saved_images()[1]["train"]})
    with pytest.raises(ValueError, match="must be a saved DatasetDict with train and test"):
        load("huggingface", str(tmp_path))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"dataset 'huggingface' needs datasets: .*landscape-toolkit\[datasets\]"):
        load("huggingface", str(tmp_path))


# --- read lazily


@pytest.mark.parametrize("workers", [0, 2])
def test_a_folder_read_lazily_is_the_one_in_memory(workers, tmp_path):
    write_image_folder(tmp_path)
    settings = {"label_noise": 0.5, "seed": 3, "settings": {"image_size": 4}}
    expected = load("folder", str(tmp_path), **settings)
    found = load("folder", str(tmp_path), **settings, lazily=True).read_by(workers)
    assert (found.count, found.classes, found.class_names) == (12, 4, expected.class_names)
    for of, parts in (("train", expected.batches("train", 5)), ("test", expected.batches("test", 5))):
        for (x, y), (a, b) in zip(found.batches(of, 5), parts, strict=True):
            torch.testing.assert_close(x, a, rtol=1e-5, atol=1e-6)
            assert torch.equal(y, b)
    for end, same in zip(found.pixel_span, expected.pixel_span, strict=True):
        torch.testing.assert_close(end, same, rtol=1e-5, atol=1e-6)


def test_mean_and_deviation_are_those_of_images_from_all_over_a_large_folder(tmp_path, monkeypatch):
    train, _ = write_image_folder(tmp_path)
    monkeypatch.setattr(lazy_images, "MEASURED", 3)
    black, white = load("folder", str(tmp_path), lazily=True).span
    chosen = train[0][[0, 6, 11]] / 255.0  # of 12; 5.5 goes to the even place
    mean, std = chosen.mean((0, 2, 3)), chosen.std((0, 2, 3))
    np.testing.assert_allclose(black.flatten(), -mean / std, rtol=1e-5)
    np.testing.assert_allclose(white.flatten(), (1 - mean) / std, rtol=1e-5)


def test_a_broken_image_is_named_when_it_is_read(tmp_path):
    write_image_folder(tmp_path)
    data = load("folder", str(tmp_path), lazily=True).read_by(2)
    file = sorted((tmp_path / "train" / "class-2").iterdir())[1]
    file.write_bytes(b"<html>")
    with pytest.raises(
        ValueError, match=rf"^dataset folder .* \(train\): item 7: {file} must be an image, got an error"
    ):
        list(data.batches("train", 5))
    Image.fromarray(np.zeros((3, 9, 3), np.uint8)).save(file)
    with pytest.raises(
        ValueError, match=r"must be an image of shape \(3, 6, 6\) \(or give image_size\), got \(3, 3, 9\)"
    ):
        list(data.batches("train", 5))


def test_a_lazy_run_on_a_folder_is_read_back_and_on_other_images(tmp_path):
    write_image_folder(tmp_path / "data")
    settings = {"model": "resnet18", "model_settings": {"form": "cifar", "width": 1, "classes": 4}, "epochs": 1}
    data = {"dataset": "folder", "data_path": str(tmp_path / "data"), "workers": 2, "batch_size": 6, "jitter": 0.2}
    run = train(TrainConfig(tmp_path / "run", **data, **settings, progress=False))
    metadata = load_checkpoint(run)[1]
    assert float(load_run(run).loss()) == pytest.approx(metadata["train_loss"], rel=1e-6)
    same = run_robustness(run, corruptions=False)
    assert (same["samples"], same["loss"]) == (8, pytest.approx(metadata["test_loss"], rel=1e-6))
    other = run_robustness(run, str(tmp_path / "data" / "test"), corruptions=False)
    assert other == pytest.approx(same, rel=1e-5)


def test_a_hugging_face_data_set_read_lazily_is_the_one_in_memory(tmp_path, monkeypatch):
    _, saved = saved_images()
    stand_in(monkeypatch, saved)
    expected, found = (load("huggingface", str(tmp_path), lazily=lazily) for lazily in (False, True))
    assert found.classes == 4
    for of in ("train", "test"):
        ((x, y),), ((a, b),) = found.batches(of, 20), expected.batches(of, 20)
        torch.testing.assert_close(x, a, rtol=1e-5, atol=1e-6)
        assert torch.equal(y, b)
