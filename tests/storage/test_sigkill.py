"""A walk, with workers too, and an analysis killed at random moments: what they end with, and what is done twice."""

import json
import random
from collections import Counter
from pathlib import Path
from time import sleep

import torch
from cases import normal, same
from served import all_ended, killed
from torch import nn
from torch.nn import functional as F

from landscape.metrics.analyze import analyze
from landscape.problem import Problem
from landscape.slices import slice_2d

KILLS = 20
GRID = {"x": (-1.0, 1.0, 21), "y": (-2.0, 1.0, 17)}


class Logged:
    """Cross entropy that notes each of its values in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, outputs, targets):
        loss = F.cross_entropy(outputs, targets)
        if torch.is_grad_enabled():  # it is asked what it counts, once
            return loss
        with self.path.open("ab", buffering=0) as file:
            file.write(f"{float(loss.detach()).hex()}\n".encode())
        sleep(0.001)
        return loss


def logged(folder: str) -> Problem:
    model = nn.Linear(4, 3).double()
    torch.nn.utils.vector_to_parameters(normal(15), model.parameters())
    data = (normal(20, 4, seed=1), torch.arange(20) % 3)
    return Problem(model, Logged(Path(folder) / "log"), data)


def walk(folder: str, resume: str | None = "walk.jsonl", workers: int = 1):
    path = resume and Path(folder) / resume
    directions = normal(15, seed=2), normal(15, seed=3)
    return slice_2d(logged(folder), *directions, **GRID, resume=path, workers=workers, progress=False)


def measure(folder: str, resume: str | None = "kept.jsonl"):
    path = resume and Path(folder) / resume
    return analyze(logged(folder), resume=path, progress=False)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_a_walk_killed_twenty_times_equals_one_never_killed_and_repeats_only_what_was_in_flight(tmp_path):
    source, log, record = random.Random(0), tmp_path / "log", tmp_path / "walk.jsonl"
    for _ in range(KILLS):
        before, kept = len(lines(log)), max(len(lines(record)), 1)
        moment = before + source.randint(1, 14)
        killed(walk, str(tmp_path), moment=lambda at=moment: len(lines(log)) >= at, after=source.uniform(0, 0.003))
        done = max(len(lines(record)), 1) - kept
        assert len(lines(log)) - before - 1 - done in (0, 1)  # one of the losses was the centre's
    resumed = walk(str(tmp_path))
    counts = Counter(lines(log))
    whole = walk(str(tmp_path), resume=None)
    assert torch.equal(resumed.loss["train"], whole.loss["train"])
    assert torch.equal(resumed.accuracy["train"], whole.accuracy["train"])
    points = [float(loss).hex() for loss in whole.loss["train"].flatten()]
    assert len(set(points)) == len(points) == 357
    centre = set(counts) - set(points)
    assert len(centre) == 1  # between two rows of this grid
    assert counts[centre.pop()] == KILLS + 1
    assert sum(counts[point] - 1 for point in points) <= KILLS
    assert len(lines(record)) == 1 + len(points)


def test_a_slice_of_two_workers_killed_twenty_times_equals_one_never_killed_and_leaves_no_worker(tmp_path):
    source, record, sessions = random.Random(0), tmp_path / "walk.jsonl", []
    for _ in range(KILLS):
        moment = len(lines(record)) + source.randint(0, 14)
        arguments = (str(tmp_path), "walk.jsonl", 2)
        after = source.uniform(0, 0.01)
        sessions.append(killed(walk, *arguments, moment=lambda at=moment: len(lines(record)) >= at, after=after))
    assert 100 < len(lines(record)) < 357
    assert all_ended(sessions)
    resumed, whole = walk(str(tmp_path)), walk(str(tmp_path), resume=None)
    assert same([resumed.loss["train"], resumed.accuracy["train"]], [whole.loss["train"], whole.accuracy["train"]])


def test_an_analysis_killed_twenty_times_equals_one_never_killed_and_repeats_no_metric(tmp_path):
    source, record, whole = random.Random(0), tmp_path / "kept.jsonl", measure(str(tmp_path), resume=None)

    def done() -> int:
        kept = (json.loads(line)[0] for line in record.read_bytes().splitlines(keepends=True)[1:] if b"\n" in line)
        return len(set(whole) & set(kept))

    for kill in range(KILLS):
        moment = kill * (len(whole) - 12) // KILLS  # the last of them come at once
        killed(
            measure,
            str(tmp_path),
            moment=lambda at=moment: record.exists() and done() >= at,
            after=source.uniform(0, 0.01),
        )
    resumed = measure(str(tmp_path))
    assert len(whole) > KILLS
    for name, found in resumed.items():
        assert same([found.value, found.stderr], [whole[name].value, whole[name].stderr]), name
        assert found.details == whole[name].details
    assert resumed.left_out == whole.left_out
    kept = Counter(json.loads(line)[0] for line in lines(record)[1:])
    assert all(kept[name] == 1 for name in whole)  # none was done twice
