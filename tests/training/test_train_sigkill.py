"""A training killed at random moments, with all that a step can carry from one to the next."""

import random
from pathlib import Path

import torch
from served import killed
from torch.optim.optimizer import register_optimizer_step_post_hook
from training_cases import BATCH_NORM, CLOCK, config, rows, state

from landscape.training import train
from landscape.training.trainer import loop

KILLS = 20
SETTINGS = BATCH_NORM | {
    "optimizer": "eigen_sam",
    "rule_settings": {"rho": 0.1, "period": 5},
    "eigen_samples": 20,
    "eigen_products": 2,
    "batch_size": 100,
    "epochs": 6,
    "crop": 1,
    "flip": True,
    "mixup": 0.4,
    "lookahead_steps": 5,
    "swa_from": 1,
    "checkpoint_epochs": [2, 6],
    "diagnostics_every": 6,
    "diagnostics_samples": 20,
}
# Checking a first config makes torch load much of itself: in the server, once for all kills.
config(".", **SETTINGS)


def run(folder: str, seconds: float):
    """Train, with a byte in the file "steps" for each step made, and `seconds` between two saves."""
    loop.SAVE_SECONDS = seconds
    with (Path(folder) / "steps").open("ab", buffering=0) as steps:
        register_optimizer_step_post_hook(lambda *_: steps.write(b"."))
        train(config(Path(folder) / "run", **SETTINGS))


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_a_training_killed_twenty_times_equals_one_never_killed(tmp_path):
    source, steps = random.Random(0), tmp_path / "steps"
    for _ in range(KILLS):
        arguments = (str(tmp_path), source.choice([-1.0, 0.02]))
        moment = size(steps) + source.randint(1, 4)  # a byte a step
        killed(run, *arguments, moment=lambda at=moment: size(steps) >= at, after=source.uniform(0, 0.01))
    folder, whole = tmp_path / "run", tmp_path / "whole"
    assert 0 < len(rows(folder)) < SETTINGS["epochs"]
    for place in (folder, whole):
        train(config(place, **SETTINGS))
    for checkpoint in (".", "epoch-2", "epoch-6"):
        assert torch.equal(state(folder / checkpoint), state(whole / checkpoint))
    assert not torch.equal(state(whole), state(whole / "epoch-6"))  # an average, and the last weights
    assert rows(folder) == rows(whole)
    measured = rows(folder, "diagnostics.jsonl")
    assert [row["step"] for row in measured] == list(range(6, 72 + 1, 6))
    assert measured == rows(whole, "diagnostics.jsonl")
    assert not set(CLOCK) & set(measured[0])
