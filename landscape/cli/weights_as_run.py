"""Weights or results given as RUN, by themselves, are answered with the command that would work."""

import json
from contextlib import suppress
from pathlib import Path
from shlex import quote
from typing import Any

import click
from click.core import ParameterSource

from landscape.checks import require
from landscape.storage.manifest import read_json
from landscape.storage.weights import FOLDER as WEIGHTS

SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")
OF_A_RUN, LOG = "model.json", "log.jsonl"  # of landscape train, when it has ended and before


def require_run(run: Path) -> None:
    """Answer what is no run of landscape train, but weights or results, with the command that takes the network."""
    weights = _weights_at(run)
    require(run.suffix not in SUFFIXES or run.exists(), f"RUN must be a folder of landscape train, found no file {run}")
    if weights is None:
        if (told := source_of(run)) is not None:
            raise ValueError(f"{run} holds results, and the network is needed; take landscape {_command()} {told}")
        require(not run.is_file(), f"RUN must be a folder of landscape train, got a file, {run}; or take --problem")
        return
    folder = weights.parent
    own = not (weights.name == WEIGHTS[0] and (folder / OF_A_RUN).exists())
    require(own, f"RUN must be a folder of landscape train, got a file in it; take {quote(str(folder))}")
    kind, loss = _kind(weights)
    ending = f" --loss {loss}" if loss else ""
    told = f"--weights {quote(str(weights))} --model problem.py:make_model --data problem.py:make_data{ending}"
    raise ValueError(
        f"{run} holds weights, which name neither network nor data: landscape init {kind} --out problem.py writes a "
        f"file for both; fill it in, then landscape {_command()} {told}"
    )


def source_of(path: Path) -> str | None:
    """The network that results of landscape spectrum, slice or analyze are of, as a command takes it.

    Args:
        path: one of their JSON files, or a folder with some that is no run itself.
    """
    files = [path] if path.is_file() and path.suffix == ".json" else []
    if path.is_dir() and not (path / OF_A_RUN).exists() and not (path / LOG).exists():
        files = sorted(path.glob("*.json"))
    for file in files:
        with suppress(ValueError):
            run = read_json(file).get("run")
            if isinstance(run, str):
                return _as_command_takes(run)
    return None


def _as_command_takes(source: str) -> str:
    """RUN, --problem or --weights, of what `str(Source)` was."""
    if Path(source).suffix in SUFFIXES or _config(Path(source)):
        return f"--weights {quote(source)} --model FILE.py:FUNCTION --data FILE.py:FUNCTION"
    return f"--problem {quote(source)}" if ":" in Path(source).name else quote(source)


def _command() -> str:
    """The command's name and the options that it was given."""
    context = click.get_current_context()
    words = [str(context.info_name)]
    for option in context.command.params:
        given = context.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE
        if given and isinstance(option, click.Option):
            value = context.params.get(str(option.name))
            for one in value if isinstance(value, tuple) else (value,):
                words += [option.opts[0]] if option.is_flag else [option.opts[0], quote(str(one))]
    return " ".join(words)


def _weights_at(run: Path) -> Path | None:
    """The weights that were given as RUN; None where it may be a run, or is something else."""
    if run.is_file():
        return run if run.suffix in SUFFIXES else None
    if not run.is_dir() or (run / OF_A_RUN).exists():
        return None
    if any((run / name).exists() for name in WEIGHTS):
        return run if _config(run) else None
    found = sorted(file for file in run.iterdir() if file.suffix in SUFFIXES[:3])
    return found[-1] if found and not (run / LOG).exists() else None


def _kind(weights: Path) -> tuple[str, str]:
    """The template of `landscape init` for them, and --loss where it is not the usual one."""
    config = _config(weights.parent if weights.name in WEIGHTS else weights)
    if not config:
        return ("lightning", "problem.py:criterion") if weights.suffix == ".ckpt" else ("image-classifier", "")
    heads = " ".join(config.get("architectures") or ())
    causal = "CausalLM" in heads or "LMHead" in heads
    return "huggingface", "causal_lm" if causal else "sequence_classification" if "Classification" in heads else ""


def _config(folder: Path) -> dict[str, Any]:
    """Of a Hugging Face folder; nothing of other folders and files."""
    try:
        content = json.loads((folder / "config.json").read_text())
        return content if "model_type" in content or "architectures" in content else {}
    except (OSError, ValueError, TypeError):
        return {}
