"""A training killed at random moments, with all that a step can carry from one to the next."""

import random
from pathlib import Path
from time import sleep

import torch
from served import served
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
    torch.set_num_threads(1)
    loop.SAVE_SECONDS = seconds
    with (Path(folder) / "steps").open("ab", buffering=0) as steps:
        register_optimizer_step_post_hook(lambda *_: steps.write(b"."))
        train(config(Path(folder) / "run", **SETTINGS))


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_a_training_killed_twenty_times_equals_one_never_killed(tmp_path):
    context, source = served(), random.Random(0)
    for _ in range(KILLS):
        before = size(tmp_path / "steps")
        process = context.Process(target=run, args=(str(tmp_path), source.choice([-1.0, 0.02])))
        process.start()
        moment = source.randint(1, 4)  # a byte a step
        while size(tmp_path / "steps") < before + moment and process.is_alive():
            sleep(0.0005)
        sleep(source.uniform(0, 0.01))
        process.kill()
        process.join()
        assert process.exitcode == -9
    killed, whole = tmp_path / "run", tmp_path / "whole"
    assert 0 < len(rows(killed)) < SETTINGS["epochs"]
    for folder in (killed, whole):
        train(config(folder, **SETTINGS))
    for checkpoint in (".", "epoch-2", "epoch-6"):
        assert torch.equal(state(killed / checkpoint), state(whole / checkpoint))
    assert not torch.equal(state(whole), state(whole / "epoch-6"))  # an average, and the last weights
    assert rows(killed) == rows(whole)
    measured = rows(killed, "diagnostics.jsonl")
    assert [row["step"] for row in measured] == list(range(6, 72 + 1, 6))
    assert measured == rows(whole, "diagnostics.jsonl")
    assert not set(CLOCK) & set(measured[0])
