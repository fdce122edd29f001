import json
from math import cos, pi

import pytest
import torch
import torch.nn.functional as F
from training_cases import BATCH_NORM, config, weights

from landscape.curvature import fisher
from landscape.data import digits
from landscape.models import build
from landscape.problem import Problem
from landscape.side_effects import random_state_kept
from landscape.training import rules
from landscape.training.trainer import loop, optimizer
from landscape.training.trainer.checkpoint import load_checkpoint
from landscape.training.trainer.config import TrainConfig
from landscape.training.trainer.evaluation import evaluate
from landscape.training.trainer.loop import train
from landscape.training.trainer.ranks import seed_of
from landscape.training.trainer.run_folder import read_log


def test_the_run_folder_has_what_was_promised(tmp_path):
    folder = train(config(tmp_path / "run"))
    log = read_log(folder)
    assert [line["epoch"] for line in log] == [1, 2, 3]
    assert [line["lr"] for line in log] == pytest.approx([0.05 * (1 + cos(pi * t / 3)) / 2 for t in range(3)])
    keys = ["epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "lr", "seconds"]
    assert list(log[0]) == keys
    model, metadata = load_checkpoint(folder)
    data = digits(0.2, seed=0)
    loss = F.cross_entropy(model(data.train_inputs), data.train_targets).item()
    right = (model(data.test_inputs).argmax(1) == data.test_targets).double().mean().item()
    assert metadata["train_loss"] == pytest.approx(loss, rel=1e-5)
    assert metadata["test_accuracy"] == pytest.approx(right, rel=1e-12)
    assert metadata["test_loss"] == log[-1]["test_loss"]
    assert metadata["parameters"] == 65 * 8 + 9 * 10
    assert metadata["config"] == json.loads((folder / "config.json").read_text()) == config(tmp_path).settings()
    assert metadata["versions"]["torch"] == torch.__version__


def test_the_log_has_the_loss_met_during_the_epoch(tmp_path):
    """One epoch of SGD, written out."""
    line = read_log(train(config(tmp_path, epochs=1, label_smoothing=0.1, weight_decay=0.01)))[0]
    model, data = loop.build("mlp", {"hidden": [8]}, 0), digits(0.2, seed=0)
    torch.manual_seed(seed_of(0, 0))
    order, total, velocity = torch.randperm(1200), 0.0, [0.0] * 4
    for batch in (order[:500], order[500:1000], order[1000:]):
        loss = F.cross_entropy(model(data.train_inputs[batch]), data.train_targets[batch], label_smoothing=0.1)
        total += loss.item() * len(batch)
        with torch.no_grad():
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            for i, (p, g) in enumerate(zip(model.parameters(), gradients, strict=True)):
                velocity[i] = 0.9 * velocity[i] + g + 0.01 * p
                p.sub_(0.05 * velocity[i])
    assert line["train_loss"] == pytest.approx(total / 1200, rel=1e-5)
    ours = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    torch.testing.assert_close(weights(tmp_path), ours, rtol=1e-4, atol=1e-6)


def test_the_log_has_the_loss_at_the_weights_and_not_at_the_displaced_ones(tmp_path):
    settings = {"optimizer": "sam", "rule_settings": {"rho": 3.0}, "batch_size": 1200, "epochs": 1}
    line = read_log(train(config(tmp_path, **settings)))[0]
    data, start = digits(0.2, seed=0), loop.build("mlp", {"hidden": [8]}, 0)
    loss, accuracy = evaluate(start, data.train_inputs, data.train_targets)
    assert line["train_loss"] == pytest.approx(loss, rel=1e-5)
    assert line["train_accuracy"] == accuracy


def test_every_m_images_of_a_batch_have_a_perturbation_of_their_own(tmp_path):
    data, m, rho = digits(), 500, 0.3
    settings = {"model": "mlp", "model_settings": {"hidden": []}, "optimizer": "sam", "rule_settings": {"rho": rho}}
    once = {"batch_size": 1200, "epochs": 1, "lr": 0.5, "weight_decay": 0.0, "progress": False}
    run = TrainConfig(folder=tmp_path, m_sharpness=m, **settings, **once)
    network, start = load_checkpoint(train(run))[0], build("mlp", {"hidden": []}, run.seed)
    with random_state_kept():
        torch.manual_seed(seed_of(run.seed, 0))
        order = torch.randperm(len(data.train_targets))

    expected = start_vector = Problem(start, F.cross_entropy, []).vector()
    for index in order.split(m):  # 500, 500, 200
        part = Problem(start, F.cross_entropy, (data.train_inputs[index], data.train_targets[index]))
        g = part.gradient()
        expected = expected - 0.5 * len(index) / len(order) * part.gradient(start_vector + rho * g / g.norm())
    got = Problem(network, F.cross_entropy, []).vector()
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_averaged_weights_have_the_statistics_of_all_images(tmp_path):
    """A batch of 200 counts for what it is, beside two of 500."""
    settings = BATCH_NORM | {"swa_from": 2, "checkpoint_epochs": [2, 3]}
    folder = train(config(tmp_path, **settings))
    torch.testing.assert_close(weights(folder), (weights(folder / "epoch-2") + weights(folder / "epoch-3")) / 2)
    stem = load_checkpoint(folder)[0].stem
    hidden = stem[0](digits().train_inputs)
    mean, variance = hidden.mean((0, 2, 3)), hidden.var((0, 2, 3))
    torch.testing.assert_close(stem[1].running_mean, mean, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(stem[1].running_var, variance, rtol=1e-4, atol=1e-6)


def test_evaluate_weighs_batches_by_their_samples():
    model, data = loop.build("mlp", {}, 0), digits()
    expected = F.cross_entropy(model(data.test_inputs), data.test_targets).item()
    for batch_size in (597, 100, 7):
        loss, accuracy = evaluate(model, data.test_inputs, data.test_targets, batch_size)
        assert loss == pytest.approx(expected, rel=1e-5)
        assert accuracy == (model(data.test_inputs).argmax(1) == data.test_targets).double().mean().item()
    assert model.training


def test_ssam_f_gets_the_squared_gradients_of_single_images(tmp_path, monkeypatch):
    seen, original = [], rules.RULES["ssam_f"]

    def watched(fisher, **settings):
        return original(fisher=lambda: seen.append(fisher()) or seen[-1], **settings)

    monkeypatch.setitem(rules.RULES, "ssam_f", watched)
    train(config(tmp_path, epochs=1, optimizer="ssam_f", eigen_samples=7))
    data, model = digits(0.2, seed=0), loop.build("mlp", {"hidden": [8]}, 0)
    losses = F.cross_entropy(model(data.train_inputs[:7]), data.train_targets[:7], reduction="none")
    gradients = [torch.autograd.grad(loss, list(model.parameters()), retain_graph=True) for loss in losses]
    expected = sum(torch.cat([g.reshape(-1) for g in gradient]) ** 2 for gradient in gradients)
    torch.testing.assert_close(seen[0], expected, rtol=1e-4, atol=1e-8)


def test_exact_fisher_sam_gets_the_fisher_matrix_of_its_subset(tmp_path, monkeypatch):
    seen, original = [], rules.RULES["exact_fisher_sam"]

    def watched(operator, **settings):
        return original(operator=lambda: seen.append(operator()) or seen[-1], **settings)

    monkeypatch.setitem(rules.RULES, "exact_fisher_sam", watched)
    train(config(tmp_path, epochs=1, optimizer="exact_fisher_sam", eigen_samples=7))
    data, model = digits(0.2, seed=0), loop.build("mlp", {"hidden": [8]}, 0)
    F_of_subset = fisher(Problem(model, F.cross_entropy, (data.train_inputs[:7], data.train_targets[:7])))
    v = torch.randn(seen[0].shape[0], generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(seen[0] @ v, F_of_subset @ v, rtol=1e-4, atol=1e-5)


def test_eigen_sam_gets_the_top_eigenvector_of_its_subset(tmp_path, monkeypatch):
    seen, original = [], optimizer.top_eigenpairs

    def watched(operator, k, **settings):
        pairs = original(operator, k, **settings)
        seen.append((settings["start"], settings["max_matvecs"], pairs))
        return pairs

    monkeypatch.setattr(optimizer, "top_eigenpairs", watched)
    settings = {"optimizer": "eigen_sam", "rule_settings": {"period": 2}, "eigen_samples": 50, "eigen_products": 4}
    train(config(tmp_path, epochs=1, **settings))  # 3 steps
    assert [matvecs for _, matvecs, _ in seen] == [4, 4]
    assert seen[0][0] is None
    torch.testing.assert_close(seen[1][0].abs(), seen[0][2].vectors[:, 0].abs())
    data, model = digits(0.2, seed=0), loop.build("mlp", {"hidden": [8]}, 0)
    v = seen[0][2].vectors[:, 0]
    loss = F.cross_entropy(model(data.train_inputs[:50]), data.train_targets[:50])
    gradient = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
    flat = torch.cat([g.reshape(-1) for g in gradient])
    product = torch.cat([g.reshape(-1) for g in torch.autograd.grad(flat @ v, list(model.parameters()))])
    assert (v @ product).item() == pytest.approx(seen[0][2].values[0].item(), rel=1e-3)  # Hv in the order of (P,)


def test_a_finished_run_returns_at_once(tmp_path, monkeypatch):
    folder = train(config(tmp_path))
    monkeypatch.setattr(loop, "Run", lambda *_: pytest.fail("trained again"))
    assert train(config(tmp_path)) == folder
    assert train(config(tmp_path, progress=None)) == folder  # the bar is no part of what the run is


def test_the_global_random_state_is_left_alone(tmp_path):
    before = torch.get_rng_state()
    train(config(tmp_path, epochs=1))
    assert torch.equal(before, torch.get_rng_state())


def test_a_folder_with_another_run_is_refused(tmp_path):
    train(config(tmp_path, epochs=1))
    with pytest.raises(ValueError, match="holds a run with other lr, seed; choose another folder"):
        train(config(tmp_path, epochs=1, lr=0.3, seed=4))
    before = weights(tmp_path)
    train(config(tmp_path, epochs=1))
    assert torch.equal(weights(tmp_path), before)


def test_a_folder_that_cannot_be_written_is_refused_before_training(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(loop, "Run", lambda *_: pytest.fail("trained"))
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=r"folder must be writable, got .*file"):
            train(config(folder))


def test_a_broken_resume_state_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "save_checkpoint", lambda *_: None)
    train(config(tmp_path, epochs=1))
    (tmp_path / "resume.pt").write_bytes(b"nothing that torch wrote")
    with pytest.raises(ValueError, match=r"resume.pt is no readable resume state: .*; delete it") as caught:
        train(config(tmp_path, epochs=1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("optimizer", ["sgd", "sam"])
def test_a_loss_that_is_not_finite_stops_the_run(optimizer, tmp_path):
    with pytest.raises(ValueError, match=r"epoch \d+: the loss is (nan|inf); try a smaller lr \(1e\+30\) or rho"):
        train(config(tmp_path, optimizer=optimizer, lr=1e30))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"in_features": 32}, r"model must take images of shape \(1, 8, 8\)"),
        ({"classes": 9}, r"model must have classes=10 outputs, got shape \(9,\)"),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_refused(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train(config(tmp_path, model_settings=settings))


@pytest.mark.parametrize("terminal", [False, True])
def test_the_bar_is_shown_where_it_is_wanted(terminal, tmp_path, capsys):
    train(config(tmp_path, progress=True if terminal else None, epochs=1))
    shown = capsys.readouterr().err
    assert ("loss=" in shown and "accuracy=" in shown and "<" in shown) == terminal
