import json
from pathlib import Path

import pytest
import torch
from torch import nn

from landscape.data import load
from landscape.study import Analysis, StudyConfig, grid, run_study
from landscape.study.noisy_labels import noisy_outcome
from landscape.study.study_runner import broken
from landscape.training import load_checkpoint

BASE = {"model": "mlp", "model_settings": {"hidden": (8,)}, "batch_size": 50}
SMALL = Analysis(["gradient_norm"], samples=50, probes=0, line_points=0, plane_points=0)


@pytest.mark.parametrize("noise", [0.0, 0.3, 0.9, 1.0])
def test_noisy_outcomes_are_the_mean_over_all_labels(noise: float) -> None:
    torch.manual_seed(0)
    model, x, y = nn.Linear(4, 5), torch.randn(7, 4), torch.randint(5, (7,))
    found = noisy_outcome(model, [(x[:3], y[:3]), (x[3:], y[3:])], noise)
    log_p = model(x).detach().double().log_softmax(1)
    share = torch.tensor([[1 - noise if c == y[i] else noise / 4 for c in range(5)] for i in range(7)])
    assert found["noisy_test_loss"] == pytest.approx(-float((share * log_p).sum(1).mean()), rel=1e-6)
    named = log_p.argmax(1)
    assert found["noisy_test_accuracy"] == pytest.approx(float(share[torch.arange(7), named].mean()), rel=1e-6)


def test_a_gap_of_noisy_labels_stands_beside_that_of_clean_ones(tmp_path: Path) -> None:
    networks = grid(tmp_path, {**BASE, "epochs": 2}, {"label_noise": [0.0, 0.2], "seed": [0]})
    clean, noisy = run_study(StudyConfig(networks, SMALL, workers=1), progress=False)
    assert clean["noisy_generalization_gap"] == clean["generalization_gap"]
    assert clean["noisy_accuracy_gap"] == clean["accuracy_gap"]
    model, data = load_checkpoint(networks["label_noise0.2-seed0"].folder)[0], load("digits")
    every = torch.arange(10).repeat(len(data.test_inputs), 1)
    log_p = model(data.test_inputs).detach().double().log_softmax(1)
    share = torch.where(every == data.test_targets[:, None], 0.8, 0.2 / 9)
    loss = -float((share * log_p).sum(1).mean())
    assert noisy["noisy_generalization_gap"] == pytest.approx(loss - noisy["train_loss"], rel=1e-5)
    expected = 0.8 * noisy["test_accuracy"] + 0.2 * (1 - noisy["test_accuracy"]) / 9
    assert noisy["noisy_accuracy_gap"] == pytest.approx(noisy["train_accuracy"] - expected, rel=1e-9)


def test_a_network_above_the_loss_of_a_study_is_left_out(tmp_path: Path) -> None:
    networks = grid(tmp_path, {**BASE, "stop_at_loss": 0.5, "seed": 0}, {"epochs": [1, 60]})
    config = StudyConfig(networks, SMALL, workers=1)
    (row,) = run_study(config, progress=False)
    assert row["name"] == "epochs60"
    assert row["train_loss"] <= 0.5
    (reason,) = broken(config).values()
    left = json.loads((networks["epochs1"].folder / "model.json").read_text())["train_loss"]
    assert f"the training loss must come down to 0.5, got {left:.3g} at epoch 1;" in reason
    assert not (networks["epochs1"].folder / "metrics.json").exists()
