"""Every reader returns what was written, standardised; every broken file is named in one line."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import write_cifar, write_image_folder, write_mnist, write_npz, write_svhn

from landscape.data import DATASETS, EMBEDDED, load
from landscape.data.files import reading
from landscape.data.images import standardised

WRITERS = {
    "cifar10": write_cifar,
    "cifar100": lambda folder: write_cifar(folder, classes=100, batch=150),
    "mnist": write_mnist,
    "fashion_mnist": lambda folder: write_mnist(folder, packed=True),
    "svhn": write_svhn,
    "npz": write_npz,
    "folder": write_image_folder,
}
ELSEWHERE = {"huggingface", "text"}  # have tests of their own


def place(name, folder):
    return folder / "images.npz" if name == "npz" else folder / name


def write(name, folder):
    """The data set's path and what is in it."""
    path = place(name, folder)
    return path, WRITERS[name](path)


def test_every_data_set_has_a_writer_here():
    others = DATASETS.keys() ^ {*EMBEDDED, *WRITERS, *ELSEWHERE}
    assert not others, f"{others}: name a function that writes a small one in WRITERS"


@pytest.mark.parametrize("name", WRITERS)
def test_what_was_written_is_read_and_standardised_by_channel(name, tmp_path):
    path, (train, test) = write(name, tmp_path)
    data = load(name, str(path))
    mean = train[0].mean((0, 2, 3), keepdims=True)  # float64
    std = train[0].std((0, 2, 3), keepdims=True)
    for inputs, targets, (pixels, labels) in (
        (data.train_inputs, data.train_targets, train),
        (data.test_inputs, data.test_targets, test),
    ):
        assert inputs.dtype == torch.float32
        assert targets.dtype == torch.int64
        assert inputs.is_contiguous()
        np.testing.assert_allclose(inputs.numpy(), (pixels - mean) / std, atol=2e-6)
        assert targets.tolist() == labels.tolist()
    assert torch.equal(data.clean_targets, data.train_targets)
    assert data.classes == {"cifar100": 100, "npz": 4, "folder": 4}.get(name, 10)


@pytest.mark.parametrize("name", WRITERS)
def test_label_noise_is_in_the_training_labels_only(name, tmp_path):
    path, (train, test) = write(name, tmp_path)
    data, other = (load(name, str(path), label_noise=0.5, seed=seed) for seed in (1, 2))
    assert int(data.flipped.sum()) == len(train[1]) // 2
    assert data.clean_targets.tolist() == train[1].tolist()
    assert data.test_targets.tolist() == test[1].tolist()
    assert not torch.equal(data.train_targets, other.train_targets)


def test_grey_images_without_a_channel_axis_get_one_and_floats_are_taken_as_they_are(tmp_path):
    grey = np.random.default_rng(0).normal(size=(12, 5, 6))
    write_npz(tmp_path / "grey.npz", train_inputs=grey, test_inputs=grey[:8].astype(np.float16))
    data = load("npz", str(tmp_path / "grey.npz"))
    assert data.train_inputs.shape == (12, 1, 5, 6)
    np.testing.assert_allclose(data.train_inputs[:, 0].numpy(), (grey - grey.mean()) / grey.std(), atol=2e-6)
    assert data.test_inputs.shape == (8, 1, 5, 6)


def test_a_constant_channel_is_only_centred():
    pixels = np.full((4, 1, 3, 3), 7, np.uint8)
    data = standardised((pixels, np.arange(4)), (pixels + 2, np.arange(4)), 4)
    assert not data.train_inputs.any()
    assert torch.equal(data.test_inputs, torch.full((4, 1, 3, 3), 2.0))


def one_line(name, path):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        load(name, str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


FILES = {
    "cifar10": ["data_batch_3.bin", "test_batch.bin"],
    "cifar100": ["train.bin"],
    "mnist": ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"],
    "fashion_mnist": ["train-images-idx3-ubyte.gz"],
    "svhn": ["train_32x32.mat", "test_32x32.mat"],
    "npz": [""],
}


@pytest.mark.parametrize(("name", "file"), [(name, file) for name, files in FILES.items() for file in files])
def test_missing_truncated_overlong_empty_and_foreign_files_are_named(name, file, tmp_path):
    path, _ = write(name, tmp_path)
    broken = path / file if file else path
    content = broken.read_bytes()
    contents = [content[:cut] for cut in (0, 3, len(content) // 2 + 5, len(content) - 1)] + [b"<html>not found</html>"]
    contents += [] if name in ("svhn", "npz", "fashion_mnist") else [content + b"x"]  # packed ones end by themselves
    for wrong in contents:
        broken.write_bytes(wrong)
        assert re.match(
            rf"{re.escape(str(broken))} must be .*, got .*; download or unpack it again$", one_line(name, path)
        )
    broken.unlink()
    message = one_line(name, path)
    assert message.startswith("data_path must be ")
    assert message.endswith(f"found no file {broken}".removesuffix(".gz"))


@pytest.mark.parametrize(
    ("name", "file"), [("svhn", "train_32x32.mat"), ("npz", ""), ("fashion_mnist", FILES["fashion_mnist"][0])]
)
def test_flipped_bytes_in_packed_files_are_found(name, file, tmp_path):
    """Their checksums see it. A wrong pixel in CIFAR's or MNIST's plain bytes is a pixel like any other."""
    path, _ = write(name, tmp_path)
    broken = path / file if file else path
    content = bytearray(broken.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(255 - byte for byte in content[middle : middle + 8])
    broken.write_bytes(bytes(content))
    assert one_line(name, path).startswith(f"{broken} must be ")


@pytest.mark.parametrize(("error", "said"), [(RuntimeError("first\nsecond"), "first"), (EOFError(), "EOFError")])
def test_whatever_a_library_raises_is_one_line(error, said):
    message = f"^a.mat must be whole, got an error: {said}; download or unpack it again$"
    with pytest.raises(ValueError, match=message), reading(Path("a.mat"), "whole"):
        raise error


def test_labels_out_of_range_are_named(tmp_path):
    path, _ = write("cifar10", tmp_path)
    content = bytearray((path / "test_batch.bin").read_bytes())
    content[3073] = 10
    (path / "test_batch.bin").write_bytes(bytes(content))
    assert "test_batch.bin must be labels from 0 to 9, got 0 to 10; " in one_line("cifar10", path)


def test_images_and_labels_that_do_not_belong_together_are_named(tmp_path):
    path, _ = write("mnist", tmp_path)
    (path / "train-labels-idx1-ubyte").write_bytes((path / "t10k-labels-idx1-ubyte").read_bytes())
    assert "must be as many labels as images, at least one, got 10 labels; " in one_line("mnist", path)


class Harmful:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_targets": None}, "test_targets"),
        ({"train_inputs": np.array([Harmful()] * 12, object)}, "allow_pickle=False"),
        ({"train_inputs": np.zeros((12, 5))}, r"\(N, height, width\) in train_inputs, got float64 \(12, 5\)"),
        ({"train_inputs": np.zeros((12, 2, 5, 6), complex)}, "got complex128"),
        ({"test_inputs": np.full((8, 2, 5, 6), np.nan)}, "finite numbers in test_inputs, got NaN or infinity"),
        (
            {"test_inputs": np.zeros((8, 3, 5, 6))},
            r"of one image size, got \(2, 5, 6\) in train and \(3, 5, 6\) in test",
        ),
        ({"train_targets": np.zeros(12)}, r"whole numbers of shape \(N,\) in train_targets, got float64 \(12,\)"),
        ({"train_targets": np.full(12, -1)}, "labels from 0 to 3, got -1 to -1"),
        ({"train_targets": np.zeros(5, int)}, "as many labels as images, at least one, got 5 labels"),
    ],
)
def test_an_npz_that_does_not_hold_what_is_documented_is_named(changes, message, tmp_path):
    write_npz(tmp_path / "images.npz", **changes)
    assert re.search(message, one_line("npz", tmp_path / "images.npz"))


def test_a_single_array_is_no_npz(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros(3))
    assert "must be an .npz file with the arrays train_inputs, " in one_line("npz", tmp_path / "images.npy")


@pytest.mark.parametrize(
    ("name", "path", "message"),
    [
        ("imagenet", "", "dataset must be one of 'digits' | 'cifar10' | 'cifar100' | 'mnist'"),
        ("digits", "x", "data_path must be empty for 'digits', which is embedded, got 'x'"),
        ("svhn", "", "data_path must say where the files of 'svhn' are, got none; give their folder"),
    ],
)
def test_name_and_path_must_go_together(name, path, message):
    assert message in one_line(name, path)
