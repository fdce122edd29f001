"""`landscape train`: options, a file, and what --help says."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from data_files import write_cifar

from landscape.cli import cli
from landscape.cli.train import FIELDS, FLAGS
from landscape.training import TrainConfig, load_checkpoint
from landscape.training.trainer.schema import GROUPS

EXAMPLE = Path(__file__).parents[2] / "analysis_scripts" / "configs" / "wrn_28_10_cifar10_sam.yaml"
SMALL = """
model: mlp
model_settings: {hidden: [8, 4]}
optimizer: sam
rule_settings: {rho: 0.1}
batch_size: 600
epochs: 2
lr: 0.2
"""


def train(*arguments: object) -> dict:
    """The config of the run that the command made."""
    done = CliRunner().invoke(cli, ["train", *map(str, arguments)])
    assert done.exception is None, done.exception
    return json.loads((Path(done.output.strip()) / "config.json").read_text())


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path / "small.yaml"


def test_options_go_before_the_file(small: Path, tmp_path: Path) -> None:
    options = ["--epochs", 1, "--rule-set", "p=1", "--no-cosine", "--checkpoint-epochs", 1]
    found = train(tmp_path / "run", "--config", small, *options)
    expected = TrainConfig.from_yaml(
        small, folder="", epochs=1, rule_settings={"rho": 0.1, "p": 1}, cosine=False, checkpoint_epochs=[1]
    )
    assert found == expected.settings()
    assert (tmp_path / "run" / "epoch-1" / "model.json").exists()


def test_a_default_given_as_an_option_goes_before_the_file(small: Path, tmp_path: Path) -> None:
    assert train(tmp_path / "run", "--config", small, "--lr", TrainConfig("").lr, "--epochs", 1)["lr"] == 0.05


def test_another_rule_or_network_starts_without_the_files_settings_of_it(small: Path, tmp_path: Path) -> None:
    found = train(tmp_path / "a", "--config", small, "--optimizer", "asam", "--rule-set", "eta=0.1", "--epochs", 1)
    assert (found["rule_settings"], found["model_settings"]) == ({"eta": 0.1}, {"hidden": [8, 4]})
    found = train(tmp_path / "b", "--config", small, "--optimizer", "sgd", "--epochs", 1)
    assert found["rule_settings"] == {}


def test_another_base_from_the_command_line(small: Path, tmp_path: Path) -> None:
    options = ["--base", "adamw", "--base-set", "betas=[0.8,0.9]", "--schedule", "step", "--milestones", "1,2"]
    found = train(tmp_path / "run", "--config", small, *options, "--epochs", 1)
    assert (found["base"], found["base_settings"], found["milestones"]) == ("adamw", {"betas": [0.8, 0.9]}, [1, 2])


def test_a_file_may_leave_to_an_option_what_it_lacks(tmp_path: Path) -> None:
    write_cifar(tmp_path / "cifar")
    text = "dataset: cifar10\nmodel: wrn\nmodel_settings: {depth: 10, widen: 1, in_channels: 3}\nepochs: 1"
    (tmp_path / "lacks.yaml").write_text(text)
    found = train(tmp_path / "run", "--config", tmp_path / "lacks.yaml", "--data-path", tmp_path / "cifar")
    assert found["data_path"] == str(tmp_path / "cifar")


def test_the_example_is_the_papers_setting(tmp_path: Path) -> None:
    run = TrainConfig.from_yaml(EXAMPLE, folder=tmp_path)
    assert (run.dataset, run.model, run.optimizer, run.rule_settings) == ("cifar10", "wrn", "sam", {"rho": 0.05})
    assert run.model_settings == {"depth": 28, "widen": 10, "in_channels": 3}
    assert (run.lr, run.momentum, run.weight_decay, run.batch_size) == (0.1, 0.9, 5e-4, 256)
    assert (run.epochs, run.cosine, run.crop, run.flip, run.cutout, run.mixup) == (200, True, 4, True, 0, 0.0)
    assert (run.label_smoothing, run.label_noise) == (0.0, 0.0)


def test_the_example_runs_on_a_small_data_set_in_that_format(tmp_path: Path) -> None:
    write_cifar(tmp_path / "cifar")
    smaller = ["--model-set", "depth=10", "--model-set", "widen=1", "--epochs", 1, "--data-path", tmp_path / "cifar"]
    found = train(tmp_path / "run", "--config", EXAMPLE, *smaller)
    expected = TrainConfig.from_yaml(
        EXAMPLE,
        folder="",
        data_path=str(tmp_path / "cifar"),
        epochs=1,
        model_settings={"depth": 10, "widen": 1, "in_channels": 3},
    )
    assert found == expected.settings()
    assert (tmp_path / "run" / "log.jsonl").read_text().count("\n") == 1
    stages = 4_672 + 14_432 + 57_536  # a block each: two batch norms, two convolutions, a shortcut where it widens
    assert load_checkpoint(tmp_path / "run")[1]["parameters"] == 432 + stages + 128 + 650


def test_help_has_every_setting_with_its_description_under_a_heading() -> None:
    text = CliRunner().invoke(cli, ["train", "--help"], terminal_width=100).output
    assert [line for line in text.splitlines() if line in {f"{heading}:" for heading in GROUPS}] == [
        f"{heading}:" for heading in GROUPS
    ]
    squeezed = re.sub(r"\s+", "", text)
    for name, schema in FIELDS.items():
        assert f"--{FLAGS.get(name, name.replace('_', '-'))}" in squeezed
        assert re.sub(r"\s+", "", schema["description"]) in squeezed
    assert max(map(len, text.splitlines())) <= 100


def test_the_schema_is_printed() -> None:
    assert json.loads(CliRunner().invoke(cli, ["train", "--schema"]).output) == TrainConfig.json_schema()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint-epochs", "1;2"], "--checkpoint-epochs must be integers with commas between them, got '1;2'"),
        (["--config", "{file}", "--lr", "-1"], "lr must be positive and finite, got -1.0"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], message: str, small: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["train", str(tmp_path / "run"), *(text.format(file=small) for text in arguments)])
    assert str(done.exception) == message
    assert not (tmp_path / "run").exists()
