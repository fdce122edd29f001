"""SAM across settings, kinds of perturbation, labels without meaning: small runs, and numbers known beforehand."""

import pytest
import torch
from torch.nn import functional as F

import landscape as ls
from analysis_scripts._shared.tables import table
from analysis_scripts.training import gains_across_settings, kinds_of_perturbation, memorization
from landscape.data import digits, load


@pytest.mark.parametrize(
    ("name", "sizes", "classes"),
    [("breast_cancer", (379, 190, 30), 2), ("wine", (118, 60, 13), 3), ("parity", (400, 200, 10), 2)],
)
def test_tables_are_standardised_by_their_training_rows(name, sizes, classes):
    data = load("analysis_scripts._shared.tables:table", name)
    assert (*data.train_inputs.shape[:1], *data.test_inputs.shape) == sizes
    assert data.classes == classes
    torch.testing.assert_close(data.train_inputs.mean(0), torch.zeros(sizes[2]), atol=1e-5, rtol=0)
    torch.testing.assert_close(data.train_inputs.var(0, correction=0), torch.ones(sizes[2]), atol=1e-4, rtol=0)
    assert torch.equal(table(name)[0].tensors[1], data.train_targets)


def test_the_best_value_has_the_smallest_error_and_of_equals_the_smallest_loss(monkeypatch):
    judged = {0.1: [[0.2, 9.0], [0.1, 9.0]], 0.3: [[0.1, 2.0], [0.2, 2.0]], 1.0: None}  # seeds; 1.0 diverged
    config = gains_across_settings.Config(settings=("wine",), tuning_seeds=(5, 6))

    def measured(runs, measure, workers):
        return {
            (name, lr, seed): {"judged": judged[lr][seed - 5]} if judged[lr] else {"failed": "x"}
            for name, lr, seed in runs
        }

    monkeypatch.setattr(gains_across_settings, "measured", measured)
    tries = {("wine", lr): (lr, 0.0) for lr in judged}
    assert gains_across_settings.tuned(config, "lr", tries) == {"wine": 0.3}
    assert gains_across_settings.at_edge({"wine": 0.3}, (0.1, 0.3), "lr") == ["lr = 0.3 of wine"]


def test_gains_over_settings_are_judged_by_their_spread():
    errors = {
        name: {"sgd": [0.2, 0.21], "constant": [0.2 + off, 0.21 + off], "tuned": [0.1, 0.11]}
        for name, off in zip(("iris", "wine", "digits, perceptron"), (-0.01, 0.02, 0.0), strict=True)
    }
    tuned, constant = gains_across_settings.claims(errors)
    assert (tuned.verdict, constant.verdict) == ("agrees", "cannot say")
    assert "lower in 3, higher in 0 of 3" in tuned.found
    assert tuned.found.startswith("by +48.8 [+48.8, +48.8] %")  # 1 − 21/41
    assert "lower in 1, higher in 1" in constant.found


def test_gains_across_settings(tmp_path):
    config = gains_across_settings.Config(
        settings=("iris", "digits, perceptron, AdamW"), lrs=(0.01, 0.1), radii=(0.05, 0.2), epochs=1,
        tuning_seeds=(100,), seeds=(0, 1), workers=1, folder=str(tmp_path / "figure"), runs=str(tmp_path / "runs"),
    )  # fmt: skip
    found = gains_across_settings.main(config)
    assert found["errors"].keys() == set(config.settings)
    run = ls.load_checkpoint(tmp_path / "runs" / "digits-perceptron-adamw" / "constant-0")[1]
    assert run["config"]["rule_settings"] == {"rho": 0.05}
    assert run["config"]["lr"] == found["lr"]["digits, perceptron, AdamW"] / 30
    assert found["errors"]["digits, perceptron, AdamW"]["constant"][0] == 1 - run["test_accuracy"]


def test_kinds_of_perturbation(tmp_path):
    setting = {"model": "mlp", "model_settings": {"hidden": [8]}, "label_noise": 0.4, "epochs": 1}
    config = kinds_of_perturbation.Config(
        lengths=(0.8,), sparsities=(0.5,), seeds=(0, 1), batches=1, setting=setting, workers=1,
        folder=str(tmp_path / "figure"), runs=str(tmp_path / "runs"),
    )  # fmt: skip
    found = kinds_of_perturbation.main(config)
    size = 64 * 8 + 8 + 8 * 10 + 10
    signs = ls.load_checkpoint(tmp_path / "runs" / "p-inf-0.8-1")[1]["config"]["rule_settings"]
    assert signs["rho"] * size**0.5 == pytest.approx(0.8)  # the length of rho sign(g)
    model, metadata = ls.load_checkpoint(tmp_path / "runs" / "sgd-0-1")
    x, y = (own[:128] for own in (lambda data: (data.train_inputs, data.train_targets))(digits(0.4, seed=1)))
    problem = ls.Problem(model, F.cross_entropy, (x, y))
    w, g = problem.vector(), problem.gradient()
    expected = [float(problem.loss(w + length * g / g.norm()) - problem.loss()) for length in config.lengths]
    assert found["rises"]["SGD"][1]["gradient"] == pytest.approx(expected, rel=1e-4)
    assert found["errors"]["SGD"][0.0][1] == pytest.approx(100 * (1 - metadata["test_accuracy"]))
    assert len(found["claims"]) == 5


def test_labels_without_meaning_are_fitted_where_the_training_accuracy_says_so():
    same = {"train_accuracy": [100.0, 100.0], "test_accuracy": [96.0, 97.0]}
    runs = {
        "true": {"none": same, "crops": {**same, "test_accuracy": [98.0, 98.5]}},
        "random": {"none": same, "both": {"train_accuracy": [80.0, 81.0], "test_accuracy": [10.0, 11.0]}},
    }
    found = memorization.claims(runs, 7)
    assert [own.verdict for own in found] == ["agrees", "differs", "agrees"]
    assert "+1.8 [-" in found[2].found
    assert found[1].found.startswith("after 7 epochs 80.5 [")


def test_memorization(tmp_path):
    config = memorization.Config(
        kinds=("none", "crops"), seeds=(0, 1), epochs=1, model_settings={"hidden": (8,)}, workers=1,
        folder=str(tmp_path / "figure"), runs=str(tmp_path / "runs"),
    )  # fmt: skip
    found = memorization.main(config)
    run = ls.load_checkpoint(tmp_path / "runs" / "random-crops-1")[1]
    assert (run["config"]["label_noise"], run["config"]["crop"], run["config"]["weight_decay"]) == (0.9, 1, 0.0)
    assert found["accuracy"]["random"]["crops"]["train_accuracy"][1] == 100 * run["train_accuracy"]
