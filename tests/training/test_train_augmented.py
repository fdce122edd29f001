"""Training on files and with augmentation: both passes see the same batch, and a cut run resumes bit for bit."""

import pytest
import torch
import torch.nn.functional as F
from data_files import write_cifar
from training_cases import cut_short, weights

from landscape.data import Augmentation, digits
from landscape.study.network_record import load_run, splits
from landscape.training import TrainConfig, load_checkpoint, read_log, train
from landscape.training.trainer import loop
from landscape.training.trainer.ranks import seed_of

AUGMENTED = {
    **{"crop": 1, "flip": True, "auto_augment": True, "rand_augment": 2, "jitter": 0.3},
    **{"cutout": 3, "erasing": 0.5, "mixup": 0.4, "cutmix": 1.0},
}
SMALL = {"model": "mlp", "model_settings": {"hidden": [8]}, "batch_size": 400, "epochs": 2, "progress": False}


@pytest.fixture
def seen(monkeypatch):
    """The images of every forward pass in training mode."""
    batches, build = [], loop.build

    def watched(*arguments):
        model = build(*arguments)
        model.register_forward_pre_hook(lambda module, inputs: batches.append(inputs[0]) if module.training else None)
        return model

    monkeypatch.setattr(loop, "build", watched)
    return batches


def expected_batches(epoch):
    torch.manual_seed(seed_of(0, epoch))
    data, augment = digits(), Augmentation(**AUGMENTED)
    return [
        augment(data.train_inputs[index], data.train_targets[index], 10, torch.default_generator, data.pixel_span)
        for index in torch.randperm(1200).split(400)
    ]


def test_both_passes_see_the_same_augmented_batch_and_every_epoch_another(seen, tmp_path):
    train(TrainConfig(tmp_path, optimizer="sam", rule_settings={"rho": 0.1}, **AUGMENTED, **SMALL))
    assert len(seen) == 2 * 3 * 2
    epochs = [[x for x, _ in expected_batches(epoch)] for epoch in range(2)]
    assert not torch.equal(epochs[0][0], epochs[1][0])
    for index, x in enumerate(epochs[0] + epochs[1]):
        assert torch.equal(seen[2 * index], x)
        assert torch.equal(seen[2 * index + 1], x)


def test_the_log_has_loss_and_accuracy_on_the_mixed_targets(tmp_path):
    """lr so small that the weights stay where they were: the batches' means, written out."""
    line = read_log(train(TrainConfig(tmp_path, lr=1e-12, **AUGMENTED, **SMALL | {"epochs": 1})))[0]
    model, loss, right = loop.build("mlp", {"hidden": [8]}, 0), 0.0, 0.0
    for x, y in expected_batches(0):
        outputs = model(x)
        loss += -(y * F.log_softmax(outputs, 1)).sum().item()
        right += sum(y[n, outputs[n].argmax()].item() for n in range(len(y)))
    assert line["train_loss"] == pytest.approx(loss / 1200, rel=1e-5)
    assert line["train_accuracy"] == pytest.approx(right / 1200, rel=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "sam", "eigen_sam"])
def test_an_interrupted_augmented_run_ends_with_the_same_weights(optimizer, tmp_path, monkeypatch):
    settings = SMALL | AUGMENTED | {"optimizer": optimizer, "epochs": 3}
    whole = train(TrainConfig(tmp_path / "whole", **settings))
    cut = TrainConfig(tmp_path / "cut", **settings)
    cut_short(cut, 4, monkeypatch)
    assert torch.equal(weights(train(cut)), weights(whole))


def test_a_network_trained_on_files_is_analysed_on_the_same_files(tmp_path):
    (_, labels), test = write_cifar(tmp_path / "cifar")
    settings = {"dataset": "cifar10", "data_path": str(tmp_path / "cifar"), "label_noise": 0.2, "epochs": 1}
    model = {"model": "resnet", "model_settings": {"width": 2, "in_channels": 3}}
    folder = train(TrainConfig(tmp_path / "run", **settings, **model, crop=4, flip=True, progress=False))
    metadata = load_checkpoint(folder)[1]
    assert float(load_run(folder).loss()) == pytest.approx(metadata["train_loss"], rel=1e-5)
    assert {name: len(batches[0][1]) for name, batches in splits(folder).items()} == {"train": 30, "test": 6}
    assert splits(folder)["test"][0][1].tolist() == test[1].tolist()
    assert int((splits(folder)["train"][0][1] != torch.from_numpy(labels)).sum()) == 6
    with pytest.raises(ValueError, match="holds a run with other flip; choose another folder"):
        train(TrainConfig(tmp_path / "run", **settings, **model, crop=4, progress=False))
