"""A zoo of networks: train every member, analyse each, and set all in one table.

Members run side by side in processes of one thread each. What is finished is kept, so that a killed study goes on. A
member that fails (its loss diverged, say) is written down with the reason, and the others go on.
"""

import re
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, field, fields
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from tqdm import tqdm

from landscape.checks import require
from landscape.metrics import METRICS
from landscape.storage.results import read_json, write_json
from landscape.storage.settings_record import ANY, Count, settings_record
from landscape.study.network_record import METRICS_FILE, Analysis, Member, cut, measure, prepare, row
from landscape.study.trained import Trained
from landscape.training import TrainConfig

BROKEN = "broken.json"
SEED = "seed"  # the axis along which networks are repetitions of one another

STAGES: dict[str, Callable[[Member, Analysis], None]] = {
    "train": lambda member, _: prepare(member),
    "measure": measure,
    "slice": cut,
}

Families = Mapping[str, Annotated[tuple[str, ...], Field(min_length=1, strict=False)]]


@settings_record
class StudyConfig:
    """A study: which networks, and what is computed of each."""

    members: Mapping[str, Annotated[Member, ANY]]
    """Name to network."""
    analysis: Analysis
    """What is computed of each network."""
    workers: Count = 2
    """Processes of one thread each."""
    families: Families = field(default_factory=dict)
    """Name to metrics of which one is to be chosen."""

    def __post_init__(self) -> None:
        require(len(self.members) > 0, "members must hold at least one network, got none")
        unknown = {name for family in self.families.values() for name in family} - METRICS.keys()
        require(not unknown, f"families must be of {', '.join(METRICS)}; got {', '.join(sorted(unknown))}")

    @property
    def axes(self) -> list[str]:
        """The hyper-parameter columns in which members differ."""
        columns = next(iter(self.members.values())).chosen
        return [key for key in columns if len({member.chosen[key] for member in self.members.values()}) > 1]

    @property
    def cluster(self) -> list[str]:
        """The columns in which repetitions agree: networks that differ by the seed alone are not independent."""
        return [axis for axis in self.axes if axis != SEED]


def grid(
    folder: str | Path,
    base: Mapping[str, Any],
    axes: Mapping[str, Iterable[Any]],
    per_optimizer: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Trained]:
    """All combinations of the axes' values as training runs in sub-folders of `folder`.

    Args:
        folder: of the study.
        base: settings of `TrainConfig` that all members share.
        axes: setting to the values it takes; "model_settings.width" is the setting `width` of the model,
            "rule_settings.rho" the radius of every rule.
        per_optimizer: optimizer to settings that replace those of `base` for it (its rule's radius, say).
    Raises:
        ValueError: if a setting is unknown or out of range.
    """
    known = {item.name for item in fields(TrainConfig)}
    asked = {*base, *axes, *(key for own in (per_optimizer or {}).values() for key in own)}
    unknown = sorted(key for key in asked if key.partition(".")[0] not in known)
    require(not unknown, f"settings must be fields of TrainConfig, got {', '.join(unknown)}")
    axes = {key: list(values) for key, values in axes.items()}
    empty = [key for key, values in axes.items() if not values]
    require(not empty, f"axes must hold at least one value each, got none of {', '.join(empty)}")
    members = {}
    for values in product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        settings = {**base, **(per_optimizer or {}).get(chosen.get("optimizer", ""), {})}
        for key, value in chosen.items():
            name, _, entry = key.partition(".")
            settings[name] = {**settings.get(name, {}), entry: value} if entry else value
        label = "-".join(_label(key, value) for key, value in chosen.items())
        columns = {_column(key, axes): _plain(value) for key, value in chosen.items()}
        members[label] = Trained(TrainConfig(folder=Path(folder) / label, **settings), columns)
    return members


def run_study(config: StudyConfig, *, progress: bool | None = None) -> list[dict[str, Any]]:
    """Train, measure and slice every member; a row per network that came through, in the members' order.

    Raises:
        ValueError: if no member came through, or a process was killed.
    """
    hidden = None if progress is None else not progress
    with _pool(config.workers) as pool:
        for stage in STAGES:
            total = len(config.members)
            with tqdm(total=total, desc=f"{stage:8}", unit="network", disable=hidden) as bar:
                for _ in _done(config, stage, pool):
                    bar.update()
    return table(config)


def table(config: StudyConfig) -> list[dict[str, Any]]:
    """The rows of a study that has run; every row has the same columns, NaN where a network lacks a metric.

    Raises:
        ValueError: if no member came through, or a member's results are missing.
    """
    failed = broken(config)
    rows = [row(name, member) for name, member in config.members.items() if name not in failed]
    reason = next(iter(failed.values()), "")
    require(len(rows) > 0, f"no network of the study came through; the first: {reason}")
    columns = dict.fromkeys(key for found in rows for key in found)
    return [{key: found.get(key, float("nan")) for key in columns} for found in rows]


def metrics_of(rows: list[dict[str, Any]]) -> list[str]:
    """The metric columns of the table, in its order."""
    return [key for key in rows[0] if key in METRICS]


def broken(config: StudyConfig) -> dict[str, str]:
    """Name of each member that failed, and why."""
    found = {name: _failure(member, config.analysis) for name, member in config.members.items()}
    return {name: f"{failure['stage']}: {failure['error']}" for name, failure in found.items() if failure}


def seconds(config: StudyConfig) -> dict[str, float]:
    """Processor time of training, where the trainer noted it, and of the metrics."""
    spent = {"training": 0.0, "metrics": 0.0}
    for member in config.members.values():
        for what, file in (("training", "model.json"), ("metrics", METRICS_FILE)):
            path = Path(member.folder) / file
            spent[what] += read_json(path).get("seconds", 0.0) if path.exists() else 0.0
    return {what: value for what, value in spent.items() if value}


def costs(config: StudyConfig) -> dict[str, float]:
    """Metric to its mean cost in gradient-times, over the networks that have it, and under "shared" what they share."""
    found: dict[str, list[float]] = {}
    for member in config.members.values():
        path = Path(member.folder) / METRICS_FILE
        if not path.exists():
            continue
        kept = read_json(path)
        found.setdefault("shared", []).append(sum(kept["shared"].values()))
        for name, estimate in kept["estimates"].items():
            found.setdefault(name, []).append(estimate["gradient_times"])
    return {name: sum(values) / len(values) for name, values in found.items()}


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor | None]:
    """Processes of one thread each; for one worker none, but this process with one thread meanwhile."""
    if workers > 1:
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _alone)
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)  # else an interrupt would wait for all networks that are left
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield None
    finally:
        torch.set_num_threads(threads)


def _alone() -> None:
    """In a worker: one thread, and Ctrl-C ends it at once, since every file is written in one rename."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _done(config: StudyConfig, stage: str, pool: ProcessPoolExecutor | None) -> Iterator[None]:
    """One stage of all members, a step for each when it is done."""
    if pool is None:
        for member in config.members.values():
            _guarded(stage, member, config.analysis)
            yield
        return
    try:
        for job in as_completed(
            [pool.submit(_guarded, stage, own, config.analysis) for own in config.members.values()]
        ):
            job.result()
            yield
    except BrokenProcessPool as error:
        raise ValueError(
            "a process of the study was killed, perhaps for want of memory; the same command goes on, with fewer "
            "workers where memory is short"
        ) from error


def _guarded(stage: str, member: Member, analysis: Analysis) -> None:
    """One stage of one member; what it raises is kept beside it. A disk that cannot be written stops the study."""
    if _failure(member, analysis):
        return
    try:
        STAGES[stage](member, analysis)
    except Exception as error:
        Path(member.folder).mkdir(parents=True, exist_ok=True)
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
        content = {"stage": stage, "error": " ".join(reason.split()), "of": _of(member, analysis)}
        write_json(Path(member.folder) / BROKEN, content)


def _failure(member: Member, analysis: Analysis) -> dict[str, Any] | None:
    """What is written down of a failure at these settings."""
    path = Path(member.folder) / BROKEN
    found = read_json(path) if path.exists() else None
    return found if found and found["of"] == _of(member, analysis) else None


def _of(member: Member, analysis: Analysis) -> str:
    """The settings as text: at other settings a failed member is tried again."""
    return f"{member.settings()} {asdict(analysis)}"


def _column(key: str, axes: Iterable[str]) -> str:
    """The setting's own name, "rule" for the optimizer; the whole key where two settings share their name."""
    short = [name.rpartition(".")[2] for name in axes]
    own = "rule" if key == "optimizer" else key.rpartition(".")[2]
    return key if short.count(own) > 1 else own


def _plain(value: Any) -> Any:
    """A value that can be compared and put in a group; lists as text."""
    return value if isinstance(value, str | int | float) else str(value)


def _label(key: str, value: Any) -> str:
    """Of the folder: "sam", "lr0.1", "hidden64_64"."""
    text = re.sub(r"[^\w.+-]+", "_", str(value)).strip("_")
    return text if key == "optimizer" else f"{key.rpartition('.')[2]}{text}"
