"""Seconds as medians of runs that take turns; peak memory of a call in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def timed(call: Callable[[], T]) -> tuple[float, T]:
    """Wall time of one call, to the end of what it started on a device, and what it gave."""
    _wait()
    began = perf_counter()
    result = call()
    _wait()
    return perf_counter() - began, result


def seconds(call: Callable[[], Any]) -> float:
    """Wall time of one call."""
    return timed(call)[0]


def interleaved(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each call over `repeats` rounds in which all take turns, after one round to warm up."""
    for call in calls.values():
        call()
    rounds = [{name: seconds(call) for name, call in calls.items()} for _ in range(repeats)]
    return {name: median(one[name] for one in rounds) for name in calls}


def peak_megabytes(config: Mapping[str, Any], task: str) -> float:
    """Most memory that `task` of peak.py held at a time, in a process of its own."""
    command = [sys.executable, str(Path(__file__).with_name("peak.py")), task, json.dumps(config, default=str)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
