"""A study of networks: train every network, analyse each, and set all in one table.

Members run side by side in processes of one thread each, or on a cluster; each GPU takes its own networks. What is
finished is kept, so that a killed study goes on. A network that fails (its loss diverged, say) is written down with the
reason, and the others go on.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import asdict, field, fields
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from landscape.checks import require
from landscape.metrics import METRICS
from landscape.processes import WorkerError, pool, visible_devices
from landscape.processes.progress import progress_bar
from landscape.storage.atomic import locked_folder
from landscape.storage.manifest import read_checked, read_json, read_or_none, write_json
from landscape.storage.settings_record import ANY, Count, settings_record
from landscape.study.network_record import (
    METRICS_FILE,
    Analysis,
    NetworkRecord,
    cut,
    measure,
    prepare,
    row,
    shared_cost,
)
from landscape.study.robustness import withstand
from landscape.study.shared_folder import marked, require_seen
from landscape.study.trained import Trained
from landscape.training import TrainConfig

BROKEN = "broken.json"
GAPS = ("generalization_gap", "accuracy_gap", "noisy_generalization_gap", "noisy_accuracy_gap")
COMPUTED = ("name", "train_loss", "test_loss", *GAPS)  # columns beside the metrics
SEED = "seed"  # the axis along which networks are repetitions of one another


def measure_all(network: NetworkRecord, analysis: Analysis) -> None:
    """Metrics, density, and errors under attack."""
    measure(network, analysis)
    withstand(network, analysis)


STAGES: dict[str, Callable[[NetworkRecord, Analysis], None]] = {
    "train": lambda network, _: prepare(network),
    "measure": measure_all,
    "slice": cut,
}

Families = Mapping[str, Annotated[tuple[str, ...], Field(min_length=1, strict=False)]]


@settings_record
class StudyConfig:
    """A study: which networks, and what is computed of each."""

    members: Mapping[str, Annotated[NetworkRecord, ANY]]
    """Name to network."""
    analysis: Analysis
    """What is computed of each network."""
    workers: Count = 2
    """Processes of one thread each."""
    families: Families = field(default_factory=dict)
    """Name to metrics of which one is to be chosen."""

    def __post_init__(self) -> None:
        require(len(self.members) > 0, "members must hold at least one network, got none")
        names = {column for network in self.members.values() for column in network.chosen}
        bare = {name: name.removesuffix("_stderr").removesuffix("_converged") for name in names}
        taken = sorted(name for name in names if name in COMPUTED or bare[name] in METRICS)
        require(
            not taken, f"hyper-parameters must not be named as what is computed, got {', '.join(taken)}; rename them"
        )
        unknown = {name for family in self.families.values() for name in family} - METRICS.keys()
        require(not unknown, f"families must be of {', '.join(METRICS)}; got {', '.join(sorted(unknown))}")

    @property
    def axes(self) -> list[str]:
        """The hyper-parameter columns in which networks differ."""
        columns = next(iter(self.members.values())).chosen
        return [key for key in columns if len({network.chosen[key] for network in self.members.values()}) > 1]

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
        base: settings of `TrainConfig` that all networks share.
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
    networks = {}
    for values in product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        settings = {**base, **(per_optimizer or {}).get(chosen.get("optimizer", ""), {})}
        for key, value in chosen.items():
            name, _, entry = key.partition(".")
            settings[name] = {**settings.get(name, {}), entry: value} if entry else value
        label = "-".join(_label(key, value) for key, value in chosen.items())
        columns = {_column(key, axes): _plain(value) for key, value in chosen.items()}
        require(label not in networks, f"axes: two combinations have the name {label}; leave out what is twice")
        networks[label] = Trained(TrainConfig(folder=Path(folder) / label, **settings), columns)
    return networks


def run_study(
    config: StudyConfig, executor: Executor | None = None, *, progress: bool | None = None
) -> list[dict[str, Any]]:
    """Train, measure and slice every network; a row per network that came through, in the networks' order.

    Args:
        config: networks and analysis; `workers` processes of one thread each do them.
        executor: of `concurrent.futures`, in place of these processes: Dask's, MPI's; its workers must see the run
            folders under the same path. What a lost worker had in hand is done elsewhere where the executor does so.
        progress: show bars; default on a terminal and in a notebook, else a line every 30 s.
    Raises:
        ValueError: if no network came through, a process was killed, or a worker does not see the folders.
    """
    members, workers = config.members, config.workers if executor is None else executor
    devices = _devices(members.values()) if executor is None else []
    try:
        with ExitStack() as stack:
            folders = [] if executor is None else [network.folder for network in members.values()]
            one = partial(_guarded, members, config.analysis, stack.enter_context(marked(folders)))
            results = stack.enter_context(pool(one, workers, threads=1, unit="network", devices=devices))
            for stage in STAGES:
                with progress_bar(len(members), desc=f"{stage:8}", unit="network", progress=progress) as bar:
                    for _ in results((stage, name) for name in members):
                        bar.update()
    except WorkerError as error:
        raise ValueError(
            f"{error}; what is finished is kept, the same command goes on, with fewer workers where memory is short"
        ) from error
    return table(config)


def table(config: StudyConfig) -> list[dict[str, Any]]:
    """The rows of a study that has run; every row has the same columns, NaN where a network lacks a metric.

    Raises:
        ValueError: if no network came through, or a network's results are missing.
    """
    failed = broken(config)
    rows = [row(name, network) for name, network in config.members.items() if name not in failed]
    reason = next(iter(failed.values()), "")
    require(len(rows) > 0, f"no network of the study came through; the first: {reason}")
    columns = dict.fromkeys(key for found in rows for key in found)
    return [{key: found.get(key, float("nan")) for key in columns} for found in rows]


def metrics_of(rows: list[dict[str, Any]]) -> list[str]:
    """The metric columns of the table, in its order."""
    return [key for key in rows[0] if key in METRICS]


def broken(config: StudyConfig) -> dict[str, str]:
    """Name of each network that failed, and why."""
    found = {name: _failure(network, config.analysis) for name, network in config.members.items()}
    return {name: f"{failure['stage']}: {failure['error']}" for name, failure in found.items() if failure}


def seconds(config: StudyConfig) -> dict[str, float]:
    """Processor time of training, where the trainer noted it, and of the metrics."""
    spent = {"training": 0.0, "metrics": 0.0}
    for network in config.members.values():
        for what, file in (("training", "model.json"), ("metrics", METRICS_FILE)):
            path = Path(network.folder) / file
            spent[what] += read_json(path).get("seconds", 0.0) if path.exists() else 0.0
    return {what: value for what, value in spent.items() if value}


def costs(config: StudyConfig) -> dict[str, float]:
    """Metric to its mean cost in gradient-times, over the networks that have it, and under "shared" what they share."""
    return _mean_costs(config, lambda _name, _kept: 0.0)


def costs_alone(config: StudyConfig) -> dict[str, float]:
    """The same of each metric by itself: with all of the shared work that it stands on."""
    return _mean_costs(config, shared_cost)


def _mean_costs(config: StudyConfig, beside: Callable[[str, Mapping[str, Any]], float]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for network in config.members.values():
        path = Path(network.folder) / METRICS_FILE
        if not path.exists():
            continue
        kept = read_checked(path)
        found.setdefault("shared", []).append(sum(kept["shared"].values()))
        for name, estimate in kept["estimates"].items():
            found.setdefault(name, []).append(estimate["gradient_times"] + beside(name, kept))
    return {name: sum(values) / len(values) for name, values in found.items()}


def _devices(networks: Iterable[NetworkRecord]) -> list[str]:
    """The GPUs to deal out: none where checkpoints are measured on one by its number, "cuda:1"."""
    numbered = any(":" in getattr(network, "device", "") for network in networks)
    return [] if numbered else visible_devices()


def _guarded(
    networks: Mapping[str, NetworkRecord], analysis: Analysis, marks: Mapping[str, Path], piece: tuple[str, str]
) -> None:
    """One stage of one network, in its folder alone: another study waits, and finds it done.

    What it raises is kept beside it, and tried again where the cause could pass. A disk that cannot be written stops
    the study.
    """
    stage, name = piece
    network = networks[name]
    folder = Path(network.folder)
    require_seen(marks.get(str(folder)))
    with locked_folder(folder, wait=True):
        failure = _failure(network, analysis)
        if failure and not failure.get("could_pass"):
            return
        stages = list(STAGES)
        try:
            for done in stages[: stages.index(stage) + 1] if failure else [stage]:  # what is done costs nothing
                STAGES[done](network, analysis)
            (folder / BROKEN).unlink(missing_ok=True)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
            content = {"stage": done, "error": " ".join(reason.split()), "could_pass": _could_pass(error)}
            write_json(folder / BROKEN, {**content, "of": _of(network, analysis)})


def _could_pass(error: BaseException | None) -> bool:
    """Whether the disk or the memory is to blame, which may have room the next time."""
    memory = isinstance(error, RuntimeError) and "out of memory" in str(error)
    return error is not None and (memory or isinstance(error, OSError | MemoryError) or _could_pass(error.__cause__))


def _failure(network: NetworkRecord, analysis: Analysis) -> dict[str, Any] | None:
    """What is written down of a failure at these settings."""
    found = read_or_none(Path(network.folder) / BROKEN)
    return found if found and found.get("of") == _of(network, analysis) else None


def _of(network: NetworkRecord, analysis: Analysis) -> str:
    """The settings as text: at other settings a failed network is tried again."""
    return f"{network.settings()} {asdict(analysis)}"


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
