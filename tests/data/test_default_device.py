"""Data, augmentation, corruptions, attacks and noisy networks where the default device is another: a canary, "meta"."""

import pytest
import torch
from data_files import write_image_folder, write_python_cifar

from landscape.data import Augmentation, Images, load
from landscape.data.corruptions import CORRUPTIONS, corrupt
from landscape.models import build
from landscape.study.attacks import pgd
from landscape.study.robustness import robustness

EVERYTHING = Augmentation(1, True, 2, 0.3, True, 2, 9.0, 0.2, 0.5, 1.0)


def cpu_generator():
    return torch.Generator().manual_seed(0)


def images():
    x = torch.rand(12, 3, 8, 8, generator=cpu_generator())
    return Images(x, torch.arange(12), x, torch.arange(12), torch.arange(12), 12)


def augmented(data):
    return EVERYTHING(data.train_inputs, data.train_targets, 12, cpu_generator(), data.pixel_span)


def attacked(data):
    return pgd(network(), data.test_inputs, data.test_targets, data.pixel_span, generator=cpu_generator())


def network(name="mlp", **settings):
    with torch.device("cpu"):
        return build(name, settings or {"in_features": 192, "hidden": [4], "classes": 12}, 0)


def shaken(name, data, **settings):
    model = network(name, depth=11 if name == "pyramidnet" else 8, **settings)
    torch.manual_seed(0)
    return model(data.train_inputs)


CALLS = {
    "augmentation": augmented,
    "corruptions": lambda data: [corrupt(data.test_inputs, name, 3, cpu_generator()) for name in CORRUPTIONS],
    "attack": attacked,
    "robustness": lambda data: torch.tensor(robustness(network(), data)["corruption_error"], device="cpu"),
    "pyramidnet": lambda data: shaken("pyramidnet", data, alpha=3),
    "shake_shake": lambda data: shaken("shake_shake", data, width=2),
    "text": lambda _: load("made_text").train_inputs,
}


def numbers(found):
    return [found] if isinstance(found, torch.Tensor) else list(found)


@pytest.mark.parametrize("name", CALLS)
def test_no_tensor_is_made_without_a_device(name):
    data = images()
    expected = numbers(CALLS[name](data))
    with torch.device("meta"):
        found = numbers(CALLS[name](data))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_files_and_own_functions_are_read_to_the_cpu(tmp_path):
    write_image_folder(tmp_path / "folder")
    write_python_cifar(tmp_path / "cifar")
    (tmp_path / "own.py").write_text(
        "import numpy\ndef sets():\n    part = [(numpy.ones(2) * k, k) for k in range(3)]\n    return part, part\n"
    )
    sources = [("folder", "folder"), ("cifar10", "cifar"), (f"{tmp_path / 'own.py'}:sets", "")]
    for name, path in sources:
        with torch.device("meta"):
            data = load(name, str(tmp_path / path) if path else "")
        assert {t.device.type for t in (data.train_inputs, data.train_targets, data.test_inputs)} == {"cpu"}
