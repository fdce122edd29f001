"""What a training run may be: from Python, from YAML and by its JSON schema."""

from dataclasses import asdict, fields, replace
from operator import ge, gt, le, lt

import pytest
from training_cases import config

from landscape.storage.settings import read_settings
from landscape.training import TrainConfig

BAD = [
    ({"dataset": "imagenet"}, "dataset must be one of 'digits' | 'cifar10'"),
    ({"dataset": "mnist"}, "data_path must say where the files of 'mnist' are, got none"),
    ({"crop": -1}, "crop must be an integer at least 0, got -1"),
    ({"cutout": -2}, "cutout must be an integer at least 0, got -2"),
    ({"mixup": -0.1}, "mixup must be finite and at least 0, got -0.1"),
    ({"cutmix": -0.1}, "cutmix must be finite and at least 0, got -0.1"),
    ({"rand_augment": -1}, "rand_augment must be an integer at least 0, got -1"),
    ({"rand_magnitude": 31.0}, "rand_magnitude must be in [0, 30], got 31.0"),
    ({"jitter": 1.5}, "jitter must be in [0, 1], got 1.5"),
    ({"erasing": 2.0}, "erasing must be in [0, 1], got 2.0"),
    ({"auto_augment": 1}, "auto_augment must be true or false, got 1"),
    ({"lr": "fast"}, "lr must be a number, got 'fast'"),
    ({"flip": 1}, "flip must be true or false, got 1"),
    ({"optimizer": "adam"}, "optimizer must be one of 'sgd' | 'sam' | 'asam'"),
    ({"model": "lenet"}, "model must be one of 'mlp' | 'resnet' | 'wrn'"),
    (
        {"model": "resnet", "model_settings": {"depth": 50}},
        "take 'resnet50' for ResNet-50, or 'cifar_resnet' if",
    ),
    ({"model": "resnet", "model_settings": {"depth": 18}}, "take 'resnet18' for ResNet-18"),
    ({"model": "none.py:net"}, "model must name a file that exists, got "),
    ({"dataset": "none.py:sets"}, "dataset must name a file that exists, got "),
    ({"model": "os:system"}, "model must name a function of yours, got 'os:system' of Python's own library"),
    ({"model": "no_such_package:net"}, "No module named 'no_such_package'; give a path to a .py file, or install"),
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
    ({"label_noise": -0.1}, "label_noise must be in [0, 1], got -0.1"),
    ({"label_smoothing": 2}, "label_smoothing must be in [0, 1), got 2"),
    ({"weight_decay": -1.0}, "weight_decay must be finite and at least 0, got -1.0"),
    ({"batch_size": 0}, "batch_size must be an integer at least 1, got 0"),
    ({"epochs": -2}, "epochs must be an integer at least 1, got -2"),
    ({"seed": -1}, "seed must be an integer in [0, 4294967295], got -1"),
    ({"eigen_products": 0}, "eigen_products must be an integer at least 1, got 0"),
    ({"bootstrap_rounds": -1}, "bootstrap_rounds must be an integer at least 0, got -1"),
    ({"swa_from": 4}, "swa_from must be an integer in [0, 3], got 4"),
    ({"lookahead_steps": -1}, "lookahead_steps must be an integer at least 0, got -1"),
    ({"lookahead_steps": 2, "lookahead_alpha": 0.0}, "lookahead_alpha must be in (0, 1], got 0.0"),
    ({"checkpoint_epochs": [1, 4]}, "checkpoint_epochs must be an integer in [1, 3], got 4"),
    ({"diagnostics_every": -1}, "diagnostics_every must be an integer at least 0, got -1"),
    ({"diagnostics_samples": 0}, "diagnostics_samples must be an integer at least 1, got 0"),
    ({"diagnostics_rho": 0.0}, "diagnostics_rho must be positive and finite, got 0.0"),
]
# ranges inside the settings of a choice, and what relates two numbers
ONLY_PYTHON = (
    "take 'resnet",
    "model must name",
    "No module named",
    "dataset must name",
    "hidden must",
    "rho must be finite",
    "lag must",
    "swa_from must be",
    "checkpoint_epochs must be an integer in",
)


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_a_bad_config_says_what_was_expected(changes, message, tmp_path):
    good = config(tmp_path)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        replace(good, **changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


WRN = {"model": "wrn", "model_settings": {"depth": 10, "widen": 1, "in_channels": 3}}
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
        with pytest.raises(ValueError, match=rf"run.yaml: {item.name} must be (an? |text|true|one of).*, got datetime"):
            TrainConfig.from_yaml(tmp_path / "run.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: fast", "lr must be a number, got 'fast'"),
        ("lr: true", "lr must be a number, got True"),
        ("epochs: 2.5", "epochs must be an integer at least 1, got 2.5"),
        ("epochs: yes", "epochs must be an integer at least 1, got True"),
        ("flip: 1", "flip must be true or false, got 1"),
        ("model: 3", "model must be one of 'mlp' | 'resnet'"),
        ("progress: 3", "progress must be true or false or null, got 3"),
        ("model_settings: [1]", "model_settings must be a mapping, got [1]"),
        (
            "checkpoint_epochs: 3",
            "checkpoint_epochs must be a list of which each is an integer at least 1, got 3",
        ),
        (
            "checkpoint_epochs: [1, a]",
            "checkpoint_epochs must be a list of which each is an integer at least 1, got [1, 'a']",
        ),
        ("learning_rate: 1", "got learning_rate"),
        ("3: 1", "got 3"),
        ("- lr", "must hold names and values, got list"),
        ("", "must hold names and values, got NoneType"),
        ("lr: [1", "must be a readable YAML file"),
        ("a: b: c", "line 1, column 5"),
        ("!!python/object/apply:os.getcwd []", "must be a readable YAML file"),
        ("lr: 0.1", "run.yaml: folder must be given"),
        ("{folder: here, lr: -1}", "run.yaml: lr must be positive and finite, got -1"),
        ("{folder: here, Data: {lr: 1}, lr: 1}", "each setting must be given once, got twice: lr"),
        ("{folder: here, Data: 3}", "got Data"),
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


def test_a_file_may_be_grouped_as_the_help_is(tmp_path):
    text = """
    folder: runs/one
    Data: {dataset: cifar10, data_path: files}
    Network: {model: wrn, model_settings: {depth: 10, widen: 1, in_channels: 3}}
    Optimiser and schedule: {cosine: no}
    lr: 1
    """
    (tmp_path / "run.yaml").write_text(text)
    found = TrainConfig.from_yaml(tmp_path / "run.yaml")
    assert found == TrainConfig("runs/one", "cifar10", "files", **WRN, lr=1, cosine=False)
    assert accepts(read_settings(tmp_path / "run.yaml"))
    for wrong in ({"Data": {"lr": 1.0}}, {"Data": {"dataset": "mnist"}}, {"Network": {"model_settings": {"deep": 1}}}):
        assert not accepts(wrong), wrong


def test_the_schema_refuses_what_python_refuses(tmp_path):
    good = asdict(config(tmp_path)) | {"folder": "here"}
    assert accepts(good)
    assert accepts({})
    wrongly = [message for changes, message in BAD if accepts(good | changes)]
    assert [message for message in wrongly if not message.startswith(ONLY_PYTHON)] == []
    assert len(BAD) - len(wrongly) >= 30


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sam", "rule_settings": {"rho": 1, "p": 1}, "m_sharpness": 4},
        {"optimizer": "adahessian", "rule_settings": {"eps": 0.1}},
        {"objective": "saf", "objective_settings": {"lag": 1}},
        {"dataset": "npz", "data_path": "file.npz"},
        {"optimizer": "esam", "objective": "top_samples"},
        {"lr": 1},
    ],
)
def test_the_schema_takes_what_python_takes(changes, tmp_path):
    made = replace(config(tmp_path), **changes)
    assert accepts(asdict(made) | {"folder": "here"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"rate": 1}, "settings of TrainConfig must be among folder, dataset"), ({}, "folder must be given")],
)
def test_names_are_checked_in_python_too(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "object": dict,
    "array": list,
    "null": type(None),
}
LIMITS = {"minimum": ge, "exclusiveMinimum": gt, "maximum": le, "exclusiveMaximum": lt}


def accepts(value):
    """Whether the published schema does, by the keywords that it uses (the checks want no library)."""
    schema = TrainConfig.json_schema()
    return fits(value, schema, schema["$defs"])


def fits(value, schema, shared):
    """JSON schema, draft 2020-12."""

    def inside(item, part):
        return part is True or fits(item, part, shared)

    known = schema.get("properties", {})
    own = schema.get("type")
    tests = [
        own is None or (isinstance(value, TYPES[own]) and (own == "boolean") == isinstance(value, bool)),
        value in schema.get("enum", [value]),
        schema.get("pattern", "") in str(value),
        value == schema.get("const", value),
        all(inside(value, part) for part in schema.get("allOf", [])),
        any(inside(value, part) for part in schema.get("anyOf", [True])),
        "not" not in schema or not inside(value, schema["not"]),
        "$ref" not in schema or inside(value, shared[schema["$ref"].rpartition("/")[2]]),
    ]
    if "if" in schema:
        tests.append(inside(value, schema.get("then" if inside(value, schema["if"]) else "else", True)))
    if isinstance(value, dict):
        tests += [name in value for name in schema.get("required", [])]
        extra = schema.get("additionalProperties", True)
        tests += [(name in known or extra) and inside(item, known.get(name, True)) for name, item in value.items()]
    if isinstance(value, list):
        tests += [inside(item, schema.get("items", True)) for item in value]
    if isinstance(value, str):
        tests.append(len(value) >= schema.get("minLength", 0))
    if isinstance(value, int | float):
        tests += [test(value, schema[key]) for key, test in LIMITS.items() if key in schema]
    return all(tests)
