"""A network that trains on the labels that one before it predicts."""

from dataclasses import replace

import pytest
import torch
from training_cases import config, cut_short, rows, weights

from landscape.data import digits
from landscape.study.network_record import load_run
from landscape.training import load_checkpoint, train
from landscape.training.trainer import loop

SETTINGS = {"bootstrap_rounds": 1, "checkpoint_epochs": [2]}


def predicted(folder):
    return load_checkpoint(folder)[0](digits().train_inputs).argmax(1)


def test_each_round_is_a_training_on_the_predictions_of_the_one_before(tmp_path, monkeypatch):
    folder = train(config(tmp_path / "run", bootstrap_rounds=2))
    first = train(config(tmp_path / "first"))
    assert torch.equal(weights(folder / "teacher" / "teacher"), weights(first))
    for teacher, student in ((first, folder / "teacher"), (folder / "teacher", folder)):
        data = replace(digits(), train_targets=predicted(teacher))
        assert (data.train_targets != digits(0.2, seed=0).train_targets).any()
        with monkeypatch.context() as patch:
            patch.setattr(loop, "load", lambda *_, data=data, **__: data)
            alone = train(config(tmp_path / f"alone-{len(list(tmp_path.iterdir()))}"))
        assert torch.equal(weights(alone), weights(student))
        assert rows(alone) == rows(student)


def test_it_is_analysed_on_the_labels_that_it_was_trained_on(tmp_path):
    folder = train(config(tmp_path / "run", **SETTINGS))
    for checkpoint in (folder, folder / "epoch-2", folder / "teacher", folder / "teacher" / "epoch-2"):
        metadata = load_checkpoint(checkpoint)[1]
        assert float(load_run(checkpoint).loss()) == pytest.approx(metadata["train_loss"], rel=1e-5)


@pytest.mark.parametrize("steps", [4, 13])  # of 9 + 9: in the first network, in the second
def test_it_goes_on_in_either_round(steps, tmp_path, monkeypatch):
    whole, cut = train(config(tmp_path / "whole", **SETTINGS)), config(tmp_path / "cut", **SETTINGS)
    cut_short(cut, steps, monkeypatch)
    assert (cut.folder / "teacher" / "model.json").exists() == (steps > 9)
    train(cut)
    assert torch.equal(weights(cut.folder), weights(whole))
    assert rows(cut.folder) == rows(whole)
