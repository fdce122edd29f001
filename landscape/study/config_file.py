"""A study from a file: a grid in JSON or YAML, or a CSV table of the user's own checkpoints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from landscape.checks import require
from landscape.storage.settings import read_settings
from landscape.study.network_record import Analysis
from landscape.study.own_checkpoint import read_checkpoints
from landscape.study.study_runner import StudyConfig, grid

KEYS = ("analysis", "axes", "base", "families", "per_optimizer", "workers")
OF_A_GRID = ("axes", "base", "per_optimizer")


def read_study(path: Path, runs: Path, settings: Path | None = None) -> StudyConfig:
    """The study that a file describes.

    Args:
        path: .csv with the columns of `own_checkpoint`; else a grid with the keys base, axes, per_optimizer (as in
            `grid`), analysis (fields of `Analysis`), families (name to metrics of which one is to be chosen) and
            workers.
        runs: where checkpoints and results are kept.
        settings: beside a .csv, a file with analysis, families and workers.
    Raises:
        ValueError: if a file is unreadable or has unknown keys.
    """
    own = path.suffix == ".csv"
    require(own or settings is None, "--settings belongs to a .csv table; a grid has its settings in its own file")
    source = settings if own else path
    content = read_settings(source) if source else {}
    allowed = [key for key in KEYS if not (own and key in OF_A_GRID)]
    unknown = ", ".join(sorted(str(key) for key in content if key not in allowed))
    require(not unknown, f"{source} must have the keys {', '.join(allowed)}, got {unknown}")
    try:
        analysis = Analysis(**content.get("analysis", {}))
    except TypeError as error:
        raise ValueError(f"{source}: analysis must have the fields of Analysis: {error}") from error
    families = {name: tuple(variants) for name, variants in content.get("families", {}).items()}
    networks: Mapping[str, Any] = (
        read_checkpoints(path, runs)
        if own
        else grid(runs, content.get("base", {}), content.get("axes", {}), content.get("per_optimizer"))
    )
    return StudyConfig(networks, analysis, content.get("workers", 2), families)
