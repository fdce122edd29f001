"""`landscape train`: every setting of `TrainConfig` as an option, with its own description, in groups."""

import inspect
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from landscape.data import DATASETS
from landscape.models import MODELS
from landscape.storage.settings import read_settings
from landscape.training import TrainConfig, train
from landscape.training.objectives import OBJECTIVES
from landscape.training.trainer.config import OPTIMIZERS

FIELDS: dict[str, "Field[Any]"] = {item.name: item for item in fields(TrainConfig) if item.name != "folder"}
SECTIONS = {  # the headings of --help, and the field with which each begins
    "Data": "dataset",
    "Network": "model",
    "Rule and objective": "optimizer",
    "Optimiser and schedule": "lr",
    "Regularisation and augmentation": "label_smoothing",
    "Seed and curvature": "seed",
    "Kept and measured on the way": "checkpoint_epochs",
}
FLAGS = {"model_settings": "model-set", "rule_settings": "rule-set", "objective_settings": "objective-set"}
NAMES: dict[str, Iterable[str]] = {
    "dataset": DATASETS,
    "model": MODELS,
    "optimizer": OPTIMIZERS,
    "objective": OBJECTIVES,
}
FILE = "Settings from a file, see above."
OF = {"model_settings": "model", "rule_settings": "optimizer", "objective_settings": "objective"}


class _Sections(click.Command):
    """A command whose options are listed under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = {item.name: item.get_help_record(ctx) for item in self.get_params(ctx)}
        headings = {first: heading for heading, first in SECTIONS.items()}
        heading, lines = "Options", [row for name, row in rows.items() if name not in FIELDS and name != "folder"]
        for name in FIELDS:
            if name in headings:
                self._section(formatter, heading, lines)
                heading, lines = headings[name], []
            lines.append(rows[name])
        self._section(formatter, heading, lines)

    @staticmethod
    def _section(formatter: click.HelpFormatter, heading: str, lines: Sequence[tuple[str, str] | None]) -> None:
        with formatter.section(heading):
            formatter.write_dl([line for line in lines if line is not None], col_max=28)


def descriptions() -> dict[str, str]:
    """Name of each setting to what the docstring of `TrainConfig` says of it."""
    text = (inspect.getdoc(TrainConfig) or "").partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE)
    return {name: _sentence(words) for name, words in found}


def _sentence(words: str) -> str:
    line = " ".join(words.split()).replace("`", "")
    return line[0].upper() + line[1:]


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """An option for every field but the folder."""
    said = descriptions()
    for name, item in reversed(FIELDS.items()):
        flag = f"--{FLAGS.get(name, name.replace('_', '-'))}"
        if name in FLAGS:
            kind: dict[str, Any] = {"multiple": True, "metavar": "KEY=VALUE"}
        elif item.type is bool or item.default is None:
            shown = item.default is not None
            flag, kind = f"{flag}/--no-{flag[2:]}", {"default": item.default, "show_default": shown}
        elif item.default is MISSING:
            kind = {"metavar": "N,N,...", "default": ""}
        else:
            kind = {"type": item.type, "default": item.default, "show_default": item.default != ""}
        names = f" One of {', '.join(NAMES[name])}." if name in NAMES else ""
        command = click.option(flag, name, help=said[name] + names, **kind)(command)
    return command


@click.command("train", cls=_Sections)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE.yaml", help=FILE)
@_options
@click.pass_context
def train_command(ctx: click.Context, /, folder: Path, config: Path | None, **settings: Any) -> None:
    """Train a network into FOLDER; the same command goes on with an interrupted run.

    Settings come from FILE.yaml, which has the names below with _ for - (and model_settings, rule_settings and
    objective_settings for the three that end in -set), and from options, which go before it. An --optimizer, --model
    or --objective other than the file's starts without the file's settings of it.
    """
    given = {name: settings[name] for name in settings if ctx.get_parameter_source(name) != ParameterSource.DEFAULT}
    for name in FLAGS.keys() & given.keys():
        given[name] = _pairs(given[name])
    if "checkpoint_epochs" in given:
        given["checkpoint_epochs"] = _integers(given["checkpoint_epochs"])
    click.echo(f"{train(_config(folder, config, given))}")


def _config(folder: Path, file: Path | None, given: dict[str, Any]) -> TrainConfig:
    if file is None:
        return TrainConfig(folder=folder, **given)
    own = read_settings(file)
    for name, owner in OF.items():
        before = own.get(owner, FIELDS[owner].default)
        if given.get(owner, before) != before:
            given.setdefault(name, {})
        elif name in given and isinstance(own.get(name), dict):  # what else it may be, from_yaml refuses
            given[name] = own[name] | given[name]
    return TrainConfig.from_yaml(file, folder=folder, **given)


def _integers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"--checkpoint-epochs must be integers with commas between them, got {text!r}") from error


def _pairs(items: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE texts as a dict; values are JSON where they can be, else text."""
    found = {}
    for item in items:
        key, separator, value = item.partition("=")
        if not separator:
            raise ValueError(f"settings must be KEY=VALUE, got {item!r}")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found
