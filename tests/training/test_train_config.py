"""What a training run may be: from Python and from YAML."""

from dataclasses import fields, replace

import pytest
from training_cases import config

from landscape.training import TrainConfig


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
        (
            {"objective": "adversarial"},
            "objective 'adversarial' needs a rule with a second pass, not 'sgd'; take 'sam'",
        ),
        ({"objective": "top_samples", "optimizer": "adahessian"}, "needs a rule with a second pass"),
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
        ({"bootstrap_rounds": -1}, "bootstrap_rounds must be an integer at least 0, got -1"),
        ({"swa_from": 4}, "swa_from must be an integer in [0, 3], got 4"),
        ({"lookahead_steps": -1}, "lookahead_steps must be an integer at least 0, got -1"),
        ({"lookahead_steps": 2, "lookahead_alpha": 0.0}, "alpha must be in (0, 1], got 0.0"),
        ({"checkpoint_epochs": [1, 4]}, "checkpoint_epochs must be an integer in [1, 3], got 4"),
        ({"diagnostics_every": -1}, "diagnostics_every must be an integer at least 0, got -1"),
        ({"diagnostics_samples": 0}, "diagnostics_samples must be an integer at least 1, got 0"),
        ({"diagnostics_rho": 0.0}, "diagnostics_rho must be positive and finite, got 0.0"),
    ],
)
def test_a_bad_config_says_what_was_expected(changes, message, tmp_path):
    good = config(tmp_path)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        replace(good, **changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


ALL = """
folder: runs/one
dataset: cifar10
data_path: files
model: wrn
model_settings: {depth: 10, widen: 1, in_channels: 3}
optimizer: sam
rule_settings: {rho: 5e-2}
lr: 1
weight_decay: 5e-4
cosine: no
checkpoint_epochs: [1, 20]
progress: null
"""


def test_a_yaml_file_is_the_same_as_python(tmp_path):
    (tmp_path / "run.yaml").write_text(ALL)
    settings = {
        "dataset": "cifar10",
        "data_path": "files",
        "model": "wrn",
        "model_settings": {"depth": 10, "widen": 1, "in_channels": 3},
        "optimizer": "sam",
        "rule_settings": {"rho": 0.05},
        "lr": 1,
        "weight_decay": 0.0005,
        "cosine": False,
        "checkpoint_epochs": [1, 20],
    }
    assert TrainConfig.from_yaml(tmp_path / "run.yaml") == TrainConfig("runs/one", **settings)
    other = TrainConfig.from_yaml(tmp_path / "run.yaml", folder=tmp_path, epochs=20, rule_settings={"rho": 1})
    assert other == TrainConfig(tmp_path, **settings | {"epochs": 20, "rule_settings": {"rho": 1}})


@pytest.mark.parametrize("number", ["5e-4", "5.0e-4", "0.0005", ".5e-3", "5E-04", "0.00005e1"])
def test_every_way_to_write_a_number_is_one(number, tmp_path):
    (tmp_path / "run.yaml").write_text(f"folder: here\nweight_decay: {number}\nrule_settings: {{}}")
    assert TrainConfig.from_yaml(tmp_path / "run.yaml").weight_decay == 0.0005


def test_every_field_has_a_type_that_a_file_can_hold(tmp_path):
    for item in fields(TrainConfig):
        (tmp_path / "run.yaml").write_text(f"{item.name}: 2026-11-21")  # a date, which nothing is
        with pytest.raises(ValueError, match=rf"run.yaml: {item.name} must be (an? |text|true).*, got datetime"):
            TrainConfig.from_yaml(tmp_path / "run.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: fast", "lr must be a number, got 'fast'"),
        ("lr: true", "lr must be a number, got True"),
        ("epochs: 2.5", "epochs must be an integer, got 2.5"),
        ("epochs: yes", "epochs must be an integer, got True"),
        ("flip: 1", "flip must be true or false, got 1"),
        ("model: 3", "model must be text, got 3"),
        ("progress: 3", "progress must be true or false, got 3"),
        ("model_settings: [1]", "model_settings must be a mapping, got [1]"),
        ("checkpoint_epochs: 3", "checkpoint_epochs must be a list of which each is an integer, got 3"),
        ("checkpoint_epochs: [1, a]", "checkpoint_epochs must be a list of which each is an integer, got [1, 'a']"),
        ("learning_rate: 1", "got learning_rate"),
        ("3: 1", "got 3"),
        ("- lr", "must hold names and values, got list"),
        ("", "must hold names and values, got NoneType"),
        ("lr: [1", "must be a readable YAML file"),
        ("a: b: c", "line 1, column 5"),
        ("!!python/object/apply:os.getcwd []", "must be a readable YAML file"),
        ("lr: 0.1", "folder must be given, in"),
        ("{folder: here, lr: -1}", "lr must be positive and finite, got -1"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(text, message, tmp_path):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        TrainConfig.from_yaml(tmp_path / "run.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path):
    (tmp_path / "run.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none.yaml", tmp_path / "run.yaml", tmp_path):
        with pytest.raises(ValueError, match="must be a readable YAML file") as caught:
            TrainConfig.from_yaml(path)
        assert str(path) in str(caught.value)
