"""A study of two workers killed at random moments, in training, measuring and slicing."""

import json
import random
from pathlib import Path
from typing import Any

from served import all_ended, killed

from landscape.study import Analysis, StudyConfig, grid, run_study
from landscape.study.study_runner import broken, table
from landscape.training import read_log
from landscape.training.trainer import loop

KILLS = 20
NETWORKS = 4
BASE = {"model": "mlp", "model_settings": {"hidden": [4]}, "epochs": 2, "batch_size": 300, "label_noise": 0.2}
BASE |= {"optimizer": "gsam", "rule_settings": {"rho": 0.2, "alpha": 0.4}, "lookahead_steps": 3}
METRICS = ["lambda_max", "trace", "renyi", "average_gap", "worst_case_gap", "m_sharpness"]
ANALYSIS = Analysis(METRICS, samples=200, probes=2, steps=6, line_points=11, plane_points=9)
RESULTS = ("model.safetensors", "model.json", "density.npz", "metrics.json", "slice_1d.npz", "slice_2d.json")


def config(folder: Path, workers: int = 1) -> StudyConfig:
    return StudyConfig(grid(folder, BASE, {"seed": range(NETWORKS)}), ANALYSIS, workers)


def run(folder: str, seconds: float = 60.0, workers: int = 2) -> None:
    loop.SAVE_SECONDS = seconds
    run_study(config(Path(folder), workers), progress=False)


def results(folder: Path) -> int:
    return sum(path.name in RESULTS for path in folder.glob("*/*"))


def kept(folder: Path) -> dict[str, Any]:
    """Files to the bit, and all that is said of a network but by the clock; half files go when they are an hour old."""
    found: dict[str, Any] = {name: (folder / name).read_bytes() for name in RESULTS if not name.endswith(".json")}
    found["slice_2d.npz"] = (folder / "slice_2d.npz").read_bytes()
    estimates = json.loads((folder / "metrics.json").read_text())["estimates"]
    found["log"] = [{**line, "seconds": 0} for line in read_log(folder)]
    return found | {
        "estimates": estimates,
        "files": sorted(path.name for path in folder.iterdir() if ".partial" not in path.name),
    }


def test_a_study_killed_twenty_times_equals_one_never_killed_and_leaves_no_worker(tmp_path: Path) -> None:
    source, folder, whole, sessions = random.Random(0), tmp_path / "killed", tmp_path / "whole", []
    for kill in range(KILLS):
        moment = kill * (NETWORKS * len(RESULTS) - 4) // KILLS
        arguments = (str(folder), source.choice([-1.0, 60.0]))
        after = source.uniform(0, 0.03)
        sessions.append(killed(run, *arguments, moment=lambda at=moment: results(folder) >= at, after=after))
    assert all_ended(sessions)
    assert broken(config(folder)) == {}
    for place in (folder, whole):
        run(str(place), workers=1)
    assert table(config(folder)) == table(config(whole))
    for name in config(whole).members:
        assert kept(folder / name) == kept(whole / name)
