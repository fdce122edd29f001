"""Bytes that the CPU's allocator gives out, seen by torch's profiler, for which nothing runs otherwise."""

import gc
from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def most_held(work: Callable[[], object]) -> int:
    """Most bytes at a time beyond what was there."""
    gc.collect()  # what is freed meanwhile would count as well
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def held_by_two_products(operator, v) -> int:
    """Of which the second may find what the first one has kept."""

    def products():
        for _ in range(2):
            operator.matvec(v)

    return most_held(products)
