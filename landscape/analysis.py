"""Many metrics of one checkpoint, with the work they have in common done once."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any
from zlib import crc32

import torch
from tqdm import tqdm

from landscape.checks import require
from landscape.isolation import random_source
from landscape.metrics import METRICS
from landscape.metrics.spectral import leading_pairs
from landscape.problem import Problem
from landscape.results import Estimate


def analyze(
    problem: Problem,
    metrics: Sequence[str] | None = None,
    *,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    generator: torch.Generator | None = None,
    progress: bool | None = None,
) -> dict[str, Estimate]:
    """Compute metrics of one network.

    Each metric draws from its own random numbers, seeded from the generator and its name, so that its value does not
    depend on which others are asked for.

    Args:
        problem: the scalar function.
        metrics: names from `METRICS`; default all.
        settings: metric to keyword arguments that replace its defaults, for instance {"m_sharpness": {"m": 128}}.
        generator: default seed 0.
        progress: show a bar with the time left; default only on a terminal.
    Returns:
        Name to Estimate, exactly the metrics asked for, in their order.
    Raises:
        ValueError: if a metric is unknown; what the metrics raise.
    """
    names = list(METRICS) if metrics is None else list(metrics)
    settings = settings or {}
    unknown = [name for name in [*names, *settings] if name not in METRICS]
    require(not unknown, f"metrics must be among {', '.join(METRICS)}; got {', '.join(unknown)}")
    source = random_source(generator)
    seed = int(torch.randint(2**62, (), generator=source, device=source.device))

    def seeded(name: str) -> torch.Generator:
        return torch.Generator().manual_seed(seed + crc32(name.encode()))

    shared: dict[str, Callable[[], Any]] = {
        "origin": cache(problem.loss_and_gradient),
        "pairs": cache(lambda: leading_pairs(problem, seeded("pairs"))),
    }
    found = {}
    with tqdm(names, unit="metric", disable=None if progress is None else not progress) as bar:
        for name in bar:
            bar.set_description(name)
            wanted = inspect.signature(METRICS[name]).parameters
            common = {key: compute() for key, compute in shared.items() if key in wanted}
            found[name] = METRICS[name](problem, **common, **settings.get(name, {}), generator=seeded(name))
    return found
