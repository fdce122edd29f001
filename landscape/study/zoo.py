"""A zoo of networks: train every member, analyse each, and set all in one table.

Members run side by side in processes of one thread each. What is finished is kept, so that a killed study goes on.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from landscape.checks import integer_in, require
from landscape.study.member import Analysis, cut, measure, row
from landscape.training import TrainConfig, train


@dataclass(frozen=True)
class StudyConfig:
    """A study: which networks, and what is computed of each."""

    members: Mapping[str, TrainConfig]  # name to training run
    analysis: Analysis
    workers: int = 2

    def __post_init__(self) -> None:
        integer_in("workers", self.workers, 1)
        require(len(self.members) > 0, "members must hold at least one training run, got none")


def grid(
    folder: str | Path,
    base: Mapping[str, Any],
    axes: Mapping[str, Iterable[Any]],
    per_optimizer: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, TrainConfig]:
    """All combinations of the axes' values as training runs in sub-folders of `folder`.

    Args:
        folder: of the study.
        base: settings of `TrainConfig` that all members share.
        axes: setting to the values it takes.
        per_optimizer: optimizer to settings that replace those of `base` for it (its rule's radius, say).
    Raises:
        ValueError: if a setting is unknown or out of range.
    """
    known = {item.name for item in fields(TrainConfig)}
    unknown = sorted({*base, *axes, *(key for own in (per_optimizer or {}).values() for key in own)} - known)
    require(not unknown, f"settings must be fields of TrainConfig, got {', '.join(unknown)}")
    members = {}
    for values in product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        settings = {**base, **(per_optimizer or {}).get(chosen.get("optimizer", ""), {}), **chosen}
        name = "-".join(_label(key, value) for key, value in chosen.items())
        members[name] = TrainConfig(folder=Path(folder) / name, **settings)
    return members


def run_study(config: StudyConfig, *, progress: bool | None = None) -> list[dict[str, Any]]:
    """Train, measure and slice every member; a row per network, in the members' order.

    Raises:
        ValueError: what training or analysis of a member raises.
    """
    stages: dict[str, Callable[[TrainConfig], Any]] = {
        "train": _train,
        "measure": partial(_measure, config.analysis),
        "slice": partial(_cut, config.analysis),
    }
    with ProcessPoolExecutor(config.workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        for name, stage in stages.items():
            jobs = [pool.submit(stage, member) for member in config.members.values()]
            hidden = None if progress is None else not progress
            with tqdm(as_completed(jobs), total=len(jobs), desc=f"{name:8}", unit="network", disable=hidden) as bar:
                for job in bar:
                    job.result()
    return table(config)


def table(config: StudyConfig) -> list[dict[str, Any]]:
    """The rows of a study that has run."""
    return [row(name, Path(member.folder)) for name, member in config.members.items()]


def _train(member: TrainConfig) -> None:
    train(replace(member, progress=False))


def _measure(analysis: Analysis, member: TrainConfig) -> None:
    measure(Path(member.folder), analysis)


def _cut(analysis: Analysis, member: TrainConfig) -> None:
    cut(Path(member.folder), analysis)


def _label(key: str, value: Any) -> str:
    return str(value) if key == "optimizer" else f"{key}{value}"
