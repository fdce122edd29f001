"""The log of an analysis: a line for every metric and every piece of shared work, see `storage/event_log.py`."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from landscape.problem import Problem
from landscape.storage.array_checkpoint import fingerprint
from landscape.storage.event_log import EventLog
from landscape.storage.results import Estimate
from landscape.storage.results.measurements import Spent

Keep = Callable[[str, Estimate | Spent], None]


@contextmanager
def resumed(
    path: str | Path | None, problem: Problem, settings: Mapping[str, Mapping[str, Any]], seed: int
) -> Iterator[tuple[dict[str, Estimate], dict[str, Spent], Keep]]:
    """What an earlier run has kept, metrics and shared work, and a function that keeps more.

    Raises:
        ValueError: if the file is unreadable, or of another network, data, seed or settings.
    """
    if path is None:
        yield {}, {}, lambda _name, _found: None
        return
    weights, own = fingerprint(problem.vector()), json.dumps(settings, sort_keys=True, default=repr)
    fixed = {"weights": weights, "data": str(problem.extent), "batch_norm": problem.batch_norm}
    log = EventLog(Path(path), {**fixed, "settings": own, "seed": seed}, problem.loss().double().cpu()[None])
    entries = dict(log.read(_read))
    estimates = {name: found for name, found in entries.items() if isinstance(found, Estimate)}
    spent = {name: found for name, found in entries.items() if isinstance(found, Spent)}
    with log.opened() as keep:
        yield estimates, spent, lambda name, found: keep([name, _written(found)])


def _written(found: Estimate | Spent) -> dict[str, Any]:
    content = {item.name: getattr(found, item.name) for item in fields(found)}
    return {name: value.tolist() if isinstance(value, torch.Tensor) else value for name, value in content.items()}


def _read(entry: Any) -> tuple[str, Estimate | Spent]:
    name, content = entry
    if "value" not in content:
        return name, Spent(**content)
    tensors = {key: torch.tensor(content[key], dtype=torch.float64, device="cpu") for key in ("value", "stderr")}
    return name, Estimate(**{**content, **tensors})
