"""Diagnostics in the bundled trainer; what a row holds is in test_tracking."""

import pytest
import torch
import torch.nn.functional as F
from training_cases import BATCH_NORM, config, cut_short, rows, state

from landscape.data import digits
from landscape.training import load_checkpoint, read_log, train

EVERY = {"diagnostics_every": 2, "diagnostics_samples": 30}


@pytest.mark.parametrize(
    "settings",
    [
        BATCH_NORM | {"optimizer": "eigen_sam", "rule_settings": {"period": 2}, "eigen_samples": 20, "mixup": 0.4},
        {"model": "wrn", "model_settings": {"depth": 10, "widen": 1, "dropout": 0.3}, "optimizer": "friendly_sam"},
        {"optimizer": "adahessian"},
    ],
)
def test_the_weights_are_the_same_with_and_without(settings, tmp_path):
    settings |= {"epochs": 1, "batch_size": 300}
    plain = train(config(tmp_path / "plain", **settings))
    watched = train(config(tmp_path / "watched", **settings, **EVERY))
    assert torch.equal(state(watched), state(plain))
    assert rows(watched) == rows(plain)
    assert not (plain / "diagnostics.jsonl").exists()
    assert [row["step"] for row in rows(watched, "diagnostics.jsonl")] == [2, 4]


def test_a_row_is_of_the_first_images_and_the_loss_that_is_trained_on(tmp_path):
    """Of a run whose last step has a row: read again from the network."""
    settings = {"diagnostics_every": 9, "diagnostics_samples": 150, "label_smoothing": 0.1, "crop": 1}
    folder = train(config(tmp_path, **settings))
    (row,) = read_log(folder, "diagnostics.jsonl")
    model, data = load_checkpoint(folder)[0], digits(0.2, seed=0)
    loss = F.cross_entropy(model(data.train_inputs[:150]), data.train_targets[:150], label_smoothing=0.1)
    g = torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, list(model.parameters()))])
    assert row["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert row["gradient_norm"] == pytest.approx(g.norm().item(), rel=1e-4)
    assert row["gap_lambda"] == pytest.approx(2 * row["gap"] / 0.05**2, rel=1e-9)
    assert row["e_alignment"] is None  # SGD has no e


@pytest.mark.parametrize(("optimizer", "parallel"), [("sam", True), ("reverse_sam", True), ("asam", False)])
def test_the_perturbation_is_the_rules_own(optimizer, parallel, tmp_path):
    """All images in one batch and weights that all but stand still: SAM's e lies along the row's own gradient."""
    settings = {"optimizer": optimizer, "lr": 1e-12, "batch_size": 1200, "epochs": 2, "diagnostics_samples": 1200}
    row = read_log(train(config(tmp_path, diagnostics_every=2, **settings)), "diagnostics.jsonl")[0]
    assert (row["e_alignment"] == pytest.approx(row["alignment"], rel=1e-4)) == parallel
    assert 0 < row["e_alignment"] < 1


def test_a_rule_without_a_perturbation_at_that_step_has_none(tmp_path):
    settings = {"optimizer": "looksam", "rule_settings": {"period": 3}, "diagnostics_every": 1}
    found = rows(train(config(tmp_path, epochs=1, **settings)), "diagnostics.jsonl")
    assert [row["e_alignment"] is None for row in found] == [False, True, True]


def test_a_step_with_several_perturbations_has_none(tmp_path):
    settings = {"optimizer": "sam", "m_sharpness": 250, "diagnostics_every": 3}
    (row,) = rows(train(config(tmp_path, epochs=1, **settings)), "diagnostics.jsonl")
    assert row["e_alignment"] is None


@pytest.mark.parametrize("steps", [3, 4, 5])
def test_no_row_is_lost_or_written_twice(steps, tmp_path, monkeypatch):
    settings = EVERY | {"optimizer": "friendly_sam"}
    whole, cut = train(config(tmp_path / "whole", **settings)), config(tmp_path / "cut", **settings)
    cut_short(cut, steps, monkeypatch)
    with (cut.folder / "diagnostics.jsonl").open("a") as log:
        log.write('{"step": 6, "half a li')
    train(cut)
    assert rows(cut.folder, "diagnostics.jsonl") == rows(whole, "diagnostics.jsonl")
    assert [row["step"] for row in rows(whole, "diagnostics.jsonl")] == [2, 4, 6, 8]


def test_a_row_costs_what_is_stated(tmp_path):
    """Two gradients and eight products; up to 60 products at the first row."""
    found = rows(train(config(tmp_path, **EVERY)), "diagnostics.jsonl")
    assert found[0]["matvecs"] <= 60
    assert all(row["matvecs"] <= 8 for row in found[1:])
