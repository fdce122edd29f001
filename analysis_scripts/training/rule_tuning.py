"""One setting of each rule, chosen before rule_table.py trains what it reports: other seeds, other test images.

304 of the 1,200 training images are held out; networks train on the others, with wrong labels, and the value with the
smallest mean error on the held-out images (true labels) wins. SGD's learning rate comes first and is everyone's.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

import landscape as ls
from analysis_scripts._shared.many_networks import measured, slug
from analysis_scripts.training.rule_variants import VARIANTS
from landscape.data import digits
from landscape.storage.results import read_json


def tune(
    names: Sequence[str], setting: Mapping[str, Any], seeds: Sequence[int], folder: Path, held_out: int, workers: int
) -> dict[str, dict[str, Any]]:
    """Variant to its best "value", the "lr" it trains with, and "errors", pairs of a value and its mean error.

    The first variant's learning rate is that of all others which do not tune their own.
    """
    file, steps = split(folder, held_out), -(-(1200 - held_out) // 128)
    tuned: dict[str, dict[str, Any]] = {}
    for group in (names[:1], names[1:]):
        lr = tuned[names[0]]["lr"] if tuned else setting["lr"]
        networks = {
            (name, value, seed): ls.TrainConfig(
                **{**setting, **VARIANTS[name].training(value, lr, steps)},
                folder=folder / f"{slug(name)}-{value:g}-{seed}",
                dataset="npz",
                data_path=str(file),
                seed=seed,
            )
            for name in group
            for value in VARIANTS[name].tried
            for seed in seeds
        }
        found = measured(networks, error, workers)
        for name in group:
            tuned[name] = best(name, {v: [found[name, v, s] for s in seeds] for v in VARIANTS[name].tried}, lr)
    return tuned


def best(name: str, found: Mapping[float, Sequence[Mapping[str, float]]], lr: float) -> dict[str, Any]:
    """The value of the smallest mean error; a network that diverged counts as all wrong."""
    errors = {value: mean(own.get("error", 1.0) for own in runs) for value, runs in found.items()}
    value = min(errors, key=errors.__getitem__)
    return {"value": value, "lr": value if VARIANTS[name].tunes_lr else lr, "errors": list(errors.items())}


def split(folder: Path, held_out: int) -> Path:
    """The training images as a data set: the last ones are its test set. The true test set is in neither."""
    file = folder / "held_out.npz"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        data = digits()
        x, y = data.train_inputs.numpy(), data.clean_targets.numpy()
        np.savez_compressed(
            file,
            train_inputs=x[:-held_out],
            train_targets=y[:-held_out],
            test_inputs=x[-held_out:],
            test_targets=y[-held_out:],
        )
    return file


def error(folder: Path) -> dict[str, Any]:
    """The share of wrong predictions on the network's test set."""
    return {"error": 1 - read_json(folder / "model.json")["test_accuracy"]}
