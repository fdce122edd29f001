"""Seconds as medians of runs that take turns; peak memory of a call in a process of its own."""

import json
import resource
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
    return printed_by(Path(__file__).with_name("peak.py"), task, json.dumps(config, default=str))


def printed_by(script: Path, *arguments: str) -> float:
    """The number in the last line that a script prints, run in a process of its own."""
    command = [sys.executable, str(script), *arguments]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def own_peak(device: str) -> float:
    """Most memory that this process has held, in MB: on a GPU torch's count, on a CPU the resident set."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would count the parent's memory at the time of the fork
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return float(lines["VmHWM"].split()[0]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
