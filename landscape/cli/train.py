"""`landscape train`: every setting of `TrainConfig` as an option, with its own description, in groups."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from landscape.storage.settings import read_settings
from landscape.storage.settings_record import schema_of
from landscape.training import TrainConfig, train
from landscape.training.trainer.schema import SETTINGS_OF, flatten_groups, group_names

FIELDS: dict[str, dict[str, Any]] = {
    name: schema for name, schema in schema_of(TrainConfig)["properties"].items() if name != "folder"
}
FLAGS = {name: name.replace("settings", "set").replace("_", "-") for name in SETTINGS_OF.values()}
LISTS = [name for name, schema in FIELDS.items() if schema.get("type") == "array"]
KINDS = {"integer": int, "number": float, "string": str}
FILE = "Settings from a file, see above."
SCHEMA = "JSON schema of FILE.yaml."


class _Sections(click.Command):
    """A command whose options are listed under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = {item.name: item.get_help_record(ctx) for item in self.get_params(ctx)}
        self._section(formatter, "Options", [row for name, row in rows.items() if name not in {*FIELDS, "folder"}])
        for heading, names in group_names(list(FIELDS)).items():
            self._section(formatter, heading, [rows[name] for name in names])

    @staticmethod
    def _section(formatter: click.HelpFormatter, heading: str, lines: Sequence[tuple[str, str] | None]) -> None:
        with formatter.section(heading):
            formatter.write_dl([line for line in lines if line is not None], col_max=28)


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """An option for every field but the folder."""
    for name, schema in reversed(FIELDS.items()):
        flag, default = f"--{FLAGS.get(name, name.replace('_', '-'))}", schema.get("default")
        kind: dict[str, Any] = {"default": default, "show_default": default not in (None, "")}
        if name in FLAGS:
            kind = {"multiple": True, "metavar": "KEY=VALUE"}
        elif name in LISTS:
            kind = {"metavar": "N,N,...", "default": ""}
        elif schema.get("type") in KINDS:
            kind["type"] = KINDS[schema["type"]]
        else:
            flag = f"{flag}/--no-{flag[2:]}"
        choices = schema.get("enum") or [name for part in schema.get("anyOf", ()) for name in part.get("enum", ())]
        names = f" One of {', '.join(choices)}." if choices else ""
        command = click.option(flag, name, help=" ".join(schema["description"].split()) + names, **kind)(command)
    return command


def _print_schema(ctx: click.Context, _option: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(json.dumps(TrainConfig.json_schema(), indent=2))
        ctx.exit()


@click.command("train", cls=_Sections)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE.yaml", help=FILE)
@click.option("--schema", is_flag=True, is_eager=True, expose_value=False, callback=_print_schema, help=SCHEMA)
@_options
@click.pass_context
def train_command(ctx: click.Context, /, folder: Path, config: Path | None, **settings: Any) -> None:
    """Train a network into FOLDER; the same command goes on with an interrupted run.

    Settings come from FILE.yaml, which has the names below with _ for - (and model_settings, rule_settings and so on
    for those that end in -set), if you like below the headings, and from options, which go before it. A --dataset,
    --model, --optimizer, --base or --objective other than the file's starts without the file's settings of it.
    """
    given = {name: settings[name] for name in settings if ctx.get_parameter_source(name) != ParameterSource.DEFAULT}
    for name in FLAGS.keys() & given.keys():
        given[name] = _pairs(given[name])
    for name in given.keys() & set(LISTS):
        given[name] = _integers(name, given[name])
    click.echo(f"{train(_config(folder, config, given))}")


def _config(folder: Path, file: Path | None, given: dict[str, Any]) -> TrainConfig:
    if file is None:
        return TrainConfig(folder=folder, **given)
    own = flatten_groups(read_settings(file))
    for owner, name in SETTINGS_OF.items():
        before = own.get(owner, FIELDS[owner]["default"])
        if given.get(owner, before) != before:
            given.setdefault(name, {})
        elif name in given and isinstance(own.get(name), dict):  # what else it may be, from_yaml refuses
            given[name] = own[name] | given[name]
    return TrainConfig.from_yaml(file, folder=folder, **given)


def _integers(name: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        flag = f"--{name.replace('_', '-')}"
        raise ValueError(f"{flag} must be integers with commas between them, got {text!r}") from error


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
