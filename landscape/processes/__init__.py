"""Several processes: ranks that hold a shard of the data each, and a pool that shares out pieces of work."""

from landscape.processes.devices import visible_devices
from landscape.processes.pieces import Pool, WorkerError
from landscape.processes.pool import pool
from landscape.processes.ranks import (
    ProcessGroup,
    Sums,
    WeightedSum,
    added,
    agree,
    answered,
    gathered,
    shard,
    span_of,
    summed,
    sums_over,
)

__all__ = [
    "Pool",
    "ProcessGroup",
    "Sums",
    "WeightedSum",
    "WorkerError",
    "added",
    "agree",
    "answered",
    "gathered",
    "pool",
    "shard",
    "span_of",
    "summed",
    "sums_over",
    "visible_devices",
]
