"""A study whose answer is known: metrics that are the gap and noise, and what is gathered of it."""

from typing import Any

import numpy as np

from landscape.report.evidence import Evidence
from landscape.study import correlate, level_with

AXES = ["rule", "lr", "seed"]
METRICS = ["lambda_max", "trace", "renyi", "gradient_norm"]


def rows(planted: float, seed: int = 0) -> list[dict[str, Any]]:
    """60 networks: trace and renyi are `planted` times the gap and noise, the others noise."""
    random = np.random.default_rng(seed)
    found = []
    for index in range(60):
        gap, noise = random.normal(), random.normal(size=5)
        found.append({
            "name": f"net{index}", "rule": ("sgd", "sam")[index % 2], "lr": index // 2 % 5, "seed": index // 10,
            "train_loss": 0.1 + noise[0] ** 2, "test_loss": 0.1 + noise[0] ** 2 + gap, "generalization_gap": gap,
            "lambda_max": noise[1], "trace": planted * gap + 0.3 * noise[2], "renyi": -planted * gap + noise[3],
            "gradient_norm": noise[4], "label_noise": 0.2,
        })  # fmt: skip
    return found


def evidence(table: list[dict[str, Any]], **changes: Any) -> Evidence:
    found = correlate(table, METRICS, axes=AXES, cluster=AXES[:-1], given="train_loss")
    best = max(found, key=lambda name: abs(found[name].tau))
    others = [name for name in METRICS if name != best]
    level = level_with(table, best, others, cluster=AXES[:-1])
    settings: dict[str, Any] = {
        "rows": table, "axes": AXES, "cluster": AXES[:-1], "correlations": found, "in_error": {}, "level": level,
        "selections": {}, "broken": {}, "costs": {}, **changes,
    }  # fmt: skip
    return Evidence(**settings)
