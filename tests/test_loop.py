import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from math import cos, pi

import pytest
import torch
import torch.nn.functional as F

from landscape.data import digits
from landscape.training import loop, rules
from landscape.training.checkpoint import load_checkpoint
from landscape.training.config import TrainConfig
from landscape.training.loop import evaluate, train
from landscape.training.run_folder import read_log

SMALL = {
    "model": "mlp",
    "model_settings": {"hidden": [8]},
    "label_noise": 0.2,
    "epochs": 3,
    "batch_size": 500,
    "progress": False,
}


def config(folder, **changes):
    return TrainConfig(folder=folder, **(SMALL | changes))


def weights(folder):
    return torch.cat([p.detach().reshape(-1) for p in load_checkpoint(folder)[0].parameters()])


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
    torch.manual_seed(loop._seed(0, 0))
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


def test_evaluate_weighs_batches_by_their_samples():
    model, data = loop.build("mlp", {}, 0), digits()
    expected = F.cross_entropy(model(data.test_inputs), data.test_targets).item()
    for batch_size in (597, 100, 7):
        loss, accuracy = evaluate(model, data.test_inputs, data.test_targets, batch_size)
        assert loss == pytest.approx(expected, rel=1e-5)
        assert accuracy == (model(data.test_inputs).argmax(1) == data.test_targets).double().mean().item()
    assert model.training


RULES = {
    "sgd": {},
    "sam": {"rho": 0.1},
    "asam": {"rho": 0.5},
    "fisher_sam": {"rho": 0.1},
    "gsam": {"rho": 0.1},
    "eigen_sam": {"rho": 0.1, "period": 4},
}


@pytest.mark.parametrize("optimizer", RULES)
@pytest.mark.parametrize("killed_in", ["epoch", "log", "checkpoint"])
def test_an_interrupted_run_ends_with_the_same_weights(optimizer, killed_in, tmp_path, monkeypatch):
    settings = {"optimizer": optimizer, "rule_settings": RULES[optimizer]}
    whole = train(config(tmp_path / "whole", **settings))
    interrupted = config(tmp_path / "interrupted", **settings)
    name = {"epoch": "_epoch", "log": "save_progress", "checkpoint": "save_checkpoint"}[killed_in]
    original, calls = getattr(loop, name), []

    def dies(*arguments):
        calls.append(1)
        if killed_in == "checkpoint" or len(calls) == 3:
            if killed_in == "log":  # after the log's line, before the state is replaced
                with (tmp_path / "interrupted" / "log.jsonl").open("a") as log:
                    log.write('{"epoch": 3, "half a li')
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(loop, name, dies)
    with pytest.raises(KeyboardInterrupt):
        train(interrupted)
    monkeypatch.setattr(loop, name, original)
    train(interrupted)
    assert torch.equal(weights(tmp_path / "interrupted"), weights(whole))
    assert [line["epoch"] for line in read_log(tmp_path / "interrupted")] == [1, 2, 3]
    for ours, expected in zip(read_log(tmp_path / "interrupted"), read_log(whole), strict=True):
        assert {k: v for k, v in ours.items() if k != "seconds"} == {
            k: v for k, v in expected.items() if k != "seconds"
        }


OTHERS = {
    "sam": {"steps": 2},
    "gsam": {"rho_min": 0.01, "lr_max": 0.05},
    "sam_on": {},
    "ssam_f": {"period": 2},
    "ssam_d": {"period": 2},
    "looksam": {"period": 2},
    "rsam": {"plain_steps": 2},
} | {name: {} for name in ("adahessian", "sam_second_order", "reverse_sam", "egr", "wsam", "esam", "friendly_sam")}


def test_every_rule_is_reached_here():
    assert {*RULES, *OTHERS} == {"sgd", "adahessian", *rules.RULES}


@pytest.mark.parametrize("optimizer", OTHERS)
def test_every_rule_goes_on_to_the_same_weights(optimizer, tmp_path, monkeypatch):
    settings = {"optimizer": optimizer, "rule_settings": OTHERS[optimizer], "epochs": 2, "eigen_samples": 20}
    if optimizer == "sam_on":
        settings |= {"model": "resnet", "model_settings": {"width": 2, "norm": "group"}}
    goes_on_to_the_same_weights(settings, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("objective", "chosen"),
    [("saf", {"start": 1, "lag": 1}), ("mesa", {"start": 0}), ("top_samples", {}), ("adversarial", {"size": 0.1})],
)
def test_every_objective_changes_the_weights_and_goes_on_to_the_same_ones(objective, chosen, tmp_path, monkeypatch):
    settings = {"optimizer": "esam", "objective": objective, "objective_settings": chosen, "epochs": 2}
    found = goes_on_to_the_same_weights(settings, tmp_path, monkeypatch)
    plain = train(config(tmp_path / "plain", optimizer="esam", epochs=2))
    assert not torch.equal(found, weights(plain))


def goes_on_to_the_same_weights(settings, tmp_path, monkeypatch):
    whole, original = train(config(tmp_path / "whole", **settings)), loop._epoch

    def dies(config, epoch, *rest):
        return original(config, epoch, *rest) if epoch == 0 else pytest.fail("killed")

    monkeypatch.setattr(loop, "_epoch", dies)
    with pytest.raises(pytest.fail.Exception):
        train(config(tmp_path / "cut", **settings))
    monkeypatch.setattr(loop, "_epoch", original)
    found = weights(train(config(tmp_path / "cut", **settings)))
    assert torch.equal(found, weights(whole))
    return found


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


def test_a_killed_process_resumes_to_the_same_weights(tmp_path):
    settings = SMALL | {"optimizer": "gsam", "epochs": 30, "batch_size": 200}
    script = (
        "import json, sys, torch; torch.set_num_threads(1)\n"
        "from landscape.training import TrainConfig, train\n"
        "train(TrainConfig(folder=sys.argv[1], **json.loads(sys.argv[2])))"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "killed"), json.dumps(settings)])
    log, deadline = tmp_path / "killed" / "log.jsonl", time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") >= 3) and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model.json").exists()
    for name in ("killed", "whole"):
        train(TrainConfig(folder=tmp_path / name, **settings))
    assert torch.equal(weights(tmp_path / "killed"), weights(tmp_path / "whole"))
    assert [line["epoch"] for line in read_log(tmp_path / "killed")] == list(range(1, 31))


def test_batch_norm_statistics_are_resumed(tmp_path, monkeypatch):
    settings = {
        "model": "resnet",
        "model_settings": {"width": 2, "norm": "batch"},
        "optimizer": "sam",
        "epochs": 2,
        "batch_size": 600,
    }
    whole = load_checkpoint(train(config(tmp_path / "whole", **settings)))[0].state_dict()
    original = loop._epoch

    def dies(config, epoch, *rest):
        if epoch == 1:
            raise KeyboardInterrupt
        return original(config, epoch, *rest)

    monkeypatch.setattr(loop, "_epoch", dies)
    with pytest.raises(KeyboardInterrupt):
        train(config(tmp_path / "cut", **settings))
    monkeypatch.setattr(loop, "_epoch", original)
    cut = load_checkpoint(train(config(tmp_path / "cut", **settings)))[0].state_dict()
    assert all(torch.equal(cut[name], whole[name]) for name in whole)
    assert int(whole["stem.1.num_batches_tracked"]) == 4  # two steps an epoch: pass 1 only


def test_eigen_sam_gets_the_top_eigenvector_of_its_subset(tmp_path, monkeypatch):
    seen, original = [], loop.top_eigenpairs

    def watched(operator, k, **settings):
        pairs = original(operator, k, **settings)
        seen.append((settings["start"], settings["max_matvecs"], pairs))
        return pairs

    monkeypatch.setattr(loop, "top_eigenpairs", watched)
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
    monkeypatch.setattr(loop, "_run", lambda *_: pytest.fail("trained again"))
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
    monkeypatch.setattr(loop, "_run", lambda *_: pytest.fail("trained"))
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "imagenet"}, "dataset must be one of 'digits' | 'cifar10'"),
        ({"dataset": "mnist"}, "data_path must say where the files of 'mnist' are, got none"),
        ({"crop": -1}, "crop must be an integer at least 0, got -1"),
        ({"cutout": -2}, "cutout must be an integer at least 0, got -2"),
        ({"mixup": -0.1}, "mixup must be finite and at least 0, got -0.1"),
        ({"optimizer": "adam"}, "optimizer must be one of 'sgd' | 'sam' | 'asam'"),
        ({"model": "lenet"}, "model must be one of 'mlp' | 'resnet' | 'wrn'"),
        ({"model_settings": {"deep": 1}}, "model 'mlp' cannot be built with"),
        ({"model_settings": {"hidden": [0]}}, "hidden must be an integer at least 1, got 0"),
        ({"optimizer": "sam", "rule_settings": {"rho": -1}}, "rho must be finite and at least 0, got -1"),
        ({"optimizer": "sam", "rule_settings": {"alpha": 1}}, "rule_settings must fit 'sam'"),
        ({"optimizer": "eigen_sam", "rule_settings": {"top": 1}}, "rule_settings must not hold 'top'"),
        ({"optimizer": "ssam_f", "rule_settings": {"fisher": 1}}, "rule_settings must not hold 'fisher'"),
        ({"optimizer": "adahessian", "rule_settings": {"rho": 1}}, "rule_settings must fit 'adahessian'"),
        ({"objective": "sharp"}, "objective must be one of 'plain' | 'saf'"),
        ({"objective": "saf", "objective_settings": {"rho": 1}}, "objective_settings must fit 'saf'"),
        ({"objective": "saf", "objective_settings": {"lag": 0}}, "lag must be an integer at least 1, got 0"),
        ({"rule_settings": {"rho": 1}}, "rule_settings must be empty for 'sgd'"),
        ({"lr": 0.0}, "lr must be positive and finite, got 0.0"),
        ({"momentum": 1.0}, "momentum must be in [0, 1), got 1.0"),
        ({"label_noise": -0.1}, "label_noise must be in [0, 1), got -0.1"),
        ({"label_smoothing": 2}, "label_smoothing must be in [0, 1), got 2"),
        ({"weight_decay": -1.0}, "weight_decay must be finite and at least 0, got -1.0"),
        ({"batch_size": 0}, "batch_size must be an integer at least 1, got 0"),
        ({"epochs": -2}, "epochs must be an integer at least 1, got -2"),
        ({"seed": -1}, "seed must be an integer in [0, 4294967295], got -1"),
        ({"eigen_products": 0}, "eigen_products must be an integer at least 1, got 0"),
    ],
)
def test_a_bad_config_says_what_was_expected(changes, message, tmp_path):
    good = config(tmp_path)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        replace(good, **changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
