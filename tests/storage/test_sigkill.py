"""A walk and an analysis killed at random moments: what they end with, and what they have done twice."""

import json
import random
from collections import Counter
from pathlib import Path
from time import sleep

import torch
from cases import normal
from served import served
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


def walk(folder: str, resume: str | None = "walk.jsonl"):
    torch.set_num_threads(1)
    path = resume and Path(folder) / resume
    return slice_2d(logged(folder), normal(15, seed=2), normal(15, seed=3), **GRID, resume=path, progress=False)


def measure(folder: str, resume: str | None = "kept.jsonl"):
    torch.set_num_threads(1)
    path = resume and Path(folder) / resume
    names = ["lambda_max", "average_gap", "surrogate_gap", "worst_case_gap"]
    return analyze(logged(folder), names, resume=path, progress=False)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_a_walk_killed_twenty_times_equals_one_never_killed_and_repeats_only_what_was_in_flight(tmp_path):
    context, source = served(), random.Random(0)
    log, record = tmp_path / "log", tmp_path / "walk.jsonl"
    for _ in range(KILLS):
        before, kept = len(lines(log)), max(len(lines(record)), 1)
        process = context.Process(target=walk, args=(str(tmp_path),))
        process.start()
        moment = source.randint(1, 14)
        while len(lines(log)) < before + moment and process.is_alive():
            sleep(0.0005)
        sleep(source.uniform(0, 0.003))
        process.kill()
        process.join()
        assert process.exitcode == -9
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


def test_an_analysis_killed_at_many_moments_keeps_what_was_done(tmp_path):
    context, record = served(), tmp_path / "kept.jsonl"
    for more in (1, 3, 4):  # lines of the log; two begin every run
        before = len(lines(record))
        process = context.Process(target=measure, args=(str(tmp_path),))
        process.start()
        while len(lines(record)) < before + more and process.is_alive():
            sleep(0.0005)
        process.kill()
        process.join()
        assert process.exitcode == -9
        assert len(lines(record)) >= before + more
    resumed, whole = measure(str(tmp_path)), measure(str(tmp_path), resume=None)
    assert [found.value for found in resumed.values()] == [found.value for found in whole.values()]
    kept = Counter(json.loads(line)[0] for line in lines(record)[1:])
    assert all(kept[name] == 1 for name in whole)  # none was done twice
