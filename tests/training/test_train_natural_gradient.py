"""The natural gradient in the bundled trainer, against a loop by hand."""

import pytest
import torch
from torch import nn
from training_cases import BATCH_NORM, config, cut_short, rows, state, weights

import landscape as ls
from landscape.data import digits
from landscape.training import NaturalGradient, TrainConfig, train
from landscape.training.trainer import loop, passes
from landscape.training.trainer.network import network_of
from landscape.training.trainer.ranks import Ranks, seed_of

NATURAL = {
    "optimizer": "natural_gradient",
    "rule_settings": {"damping": 0.1, "products": 8},
    "lr": 1.0,
    "schedule": "constant",
    "weight_decay": 0.0,
    "epochs": 2,
}

SMALL = {"rule_settings": {"damping": 0.1, "products": 2, "verify": False}}


def test_it_equals_a_loop_by_hand_and_learns(tmp_path):
    run = config(tmp_path, **NATURAL, label_smoothing=0.1)
    train(run)
    model, data = loop.build("mlp", {"hidden": [8]}, 0), digits(0.2, seed=0)
    optimizer = NaturalGradient(model.parameters(), lr=1.0, damping=0.1, products=8)
    criterion, found = nn.CrossEntropyLoss(label_smoothing=0.1), []
    for epoch in range(2):
        torch.manual_seed(seed_of(0, epoch))
        total = right = 0.0
        for index in torch.randperm(len(data.train_targets)).split(500):
            x, y = data.train_inputs[index], data.train_targets[index]
            right += int((model(x).argmax(1) == y).sum())
            total += float(optimizer.step(ls.Problem(model, criterion, (x, y)))) * len(index)
        found.append((total / len(data.train_targets), right / len(data.train_targets)))
    assert torch.equal(weights(tmp_path), nn.utils.parameters_to_vector(model.parameters()).detach())
    assert [(row["train_loss"], row["train_accuracy"]) for row in rows(tmp_path)] == [
        pytest.approx(pair, rel=1e-6) for pair in found
    ]
    assert rows(tmp_path)[-1]["test_accuracy"] > 0.6


@pytest.mark.parametrize("settings", [{}, {"lookahead_steps": 2, "ema_decay": 0.5, "mixup": 0.4}, SMALL | BATCH_NORM])
def test_a_run_goes_on_to_the_same_weights(settings, tmp_path, monkeypatch):
    settings = NATURAL | settings
    settings = NATURAL | settings
    whole, cut = train(config(tmp_path / "whole", **settings)), config(tmp_path / "cut", **settings)
    cut_short(cut, 4, monkeypatch)
    train(cut)
    assert torch.equal(state(tmp_path / "cut"), state(whole))
    assert rows(tmp_path / "cut") == rows(whole)


def test_a_batch_in_parts_is_the_batch_also_where_memory_ends(tmp_path, monkeypatch):
    settings = NATURAL | {"epochs": 1, "batch_size": 600}
    for folder, size in (("whole", 0), ("parts", 130)):
        train(config(tmp_path / folder, micro_batch=size, **settings))
    torch.testing.assert_close(weights(tmp_path / "parts"), weights(tmp_path / "whole"), rtol=1e-3, atol=1e-4)
    step = NaturalGradient.step

    def short(self, problem):
        if len(problem.data[0][0]) > 300:
            raise torch.OutOfMemoryError("out of memory")
        return step(self, problem)

    monkeypatch.setattr(NaturalGradient, "step", short)
    monkeypatch.setattr(passes, "can_run_out", lambda _device: True)
    train(config(tmp_path / "halved", **settings))
    torch.testing.assert_close(weights(tmp_path / "halved"), weights(tmp_path / "whole"), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_decay": 0.1}, "natural_gradient takes the plain objective, .* weight_decay=0 .*, got .* 0.1 and"),
        ({"objective": "saf"}, "natural_gradient takes the plain objective, .*, got 'saf'"),
        ({"precision": "bf16"}, "precision='float32', .*, got 'plain', 'bf16'"),
        ({"compile": True}, "no compile, got .* True"),
        ({"clip_norm": 1.0}, "natural_gradient takes no clip_norm"),
        ({"base": "adamw"}, "natural_gradient is its own base"),
        ({"rule_settings": {"rho": 1}}, "rule_settings must fit 'natural_gradient'"),
        ({"m_sharpness": 2}, "m_sharpness needs a rule"),
    ],
)
def test_what_cannot_go_with_it_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(folder=".", **(NATURAL | settings))


def test_random_networks_and_several_processes_are_refused(tmp_path):
    dropped = {"model": "wrn", "model_settings": {"dropout": 0.3}}
    with pytest.raises(ValueError, match="needs a network without dropout and the like"):
        train(config(tmp_path, **NATURAL, **dropped))
    with pytest.raises(ValueError, match="one process must train with NaturalGradient"):
        network_of(nn.Linear(1, 1), config(tmp_path, **NATURAL), Ranks(1, 2), count=100)
