"""Weights given as RUN, by themselves, are answered with the command that would work."""

import json
from pathlib import Path
from shlex import quote
from typing import Any

import click

from landscape.checks import require
from landscape.storage.weights import FOLDER as WEIGHTS

SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".safetensors")
OF_A_RUN, LOG = "model.json", "log.jsonl"  # of landscape train, when it has ended and before


def require_run(run: Path) -> None:
    """Answer what is no run of landscape train, but weights, with the command that takes them."""
    weights = _weights_at(run)
    require(run.suffix not in SUFFIXES or run.exists(), f"RUN must be a folder of landscape train, found no file {run}")
    if weights is None:
        require(not run.is_file(), f"RUN must be a folder of landscape train, got a file, {run}; or take --problem")
        return
    folder = weights.parent
    own = not (weights.name == WEIGHTS[0] and (folder / OF_A_RUN).exists())
    require(own, f"RUN must be a folder of landscape train, got a file in it; take {quote(str(folder))}")
    kind, loss = _kind(weights)
    ending = f" --loss {loss}" if loss else ""
    told = f"--weights {quote(str(weights))} --model problem.py:make_model --data problem.py:make_data{ending}"
    command = click.get_current_context().info_name
    raise ValueError(
        f"{run} holds weights, which name neither network nor data: landscape init {kind} --out problem.py writes a "
        f"file for both; fill it in, then landscape {command} {told}"
    )


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
