"""A study from a file: a grid in JSON or YAML, or a CSV table of the user's own checkpoints."""

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from landscape.checks import require
from landscape.storage.settings import read_settings
from landscape.storage.settings_record import Count, from_settings, settings_record
from landscape.study.network_record import Analysis, NetworkRecord
from landscape.study.own_checkpoint import read_checkpoints, require_files
from landscape.study.study_runner import Families, StudyConfig, grid


@settings_record
class TableSettings:
    """What stands beside a table of checkpoints."""

    analysis: Analysis = field(default_factory=Analysis)
    """What is computed of each network."""
    families: Families = field(default_factory=dict)
    """Name to metrics of which one is to be chosen."""
    workers: Count = 2
    """Processes of one thread each."""


@settings_record
class GridSettings(TableSettings):
    """A grid of training runs, as `grid` has it."""

    base: Mapping[str, Any] = field(default_factory=dict)
    """Settings of landscape train that all networks share."""
    axes: Mapping[str, list[Any]] = field(default_factory=dict)
    """Setting to the values it takes."""
    per_optimizer: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Optimizer to settings that replace those of base for it."""


def read_study(
    path: Path, runs: Path, settings: Path | None = None, *, device: str = "auto", files: bool = True
) -> StudyConfig:
    """The study that a file describes.

    Args:
        path: .csv with the columns of `own_checkpoint`; else a grid with the names of `GridSettings`.
        runs: where checkpoints and results are kept.
        settings: beside a .csv, a file with the names of `TableSettings`.
        device: where networks are trained and measured; "auto" is as the grid's base, or the table's factory, has it.
        files: see that every checkpoint and factory of a table is there; not needed for what has been measured.
    Raises:
        ValueError: if a file is unreadable, or has an unknown name or a value of the wrong type or out of range,
            or a table's files are not there.
    """
    own = path.suffix == ".csv"
    require(own or settings is None, "--settings belongs to a .csv table; a grid has its settings in its own file")
    source = settings if own else path
    content = read_settings(source) if source else {}
    if "analysis" in content:
        content["analysis"] = from_settings(Analysis, content["analysis"], f"{source}: analysis")
    found = from_settings(TableSettings if own else GridSettings, content, source)
    networks: Mapping[str, NetworkRecord]
    if isinstance(found, GridSettings):
        base = found.base if device == "auto" else {**found.base, "device": device}
        networks = grid(runs, base, found.axes, found.per_optimizer)
    else:
        networks = checkpoints = read_checkpoints(path, runs, device)
        if files:
            require_files(path, checkpoints.values())
    return StudyConfig(networks, found.analysis, found.workers, found.families)
