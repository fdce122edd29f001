"""The data of a problem cut anew: consecutive subsets of m samples, across the borders of its batches."""

from collections.abc import Iterator
from typing import Any

from landscape.problem import Problem
from landscape.problem.batches import join, rows


def subsets(problem: Problem, m: int) -> Iterator[tuple[Any, Any]]:
    """The data in consecutive subsets of m samples; the last may be smaller."""
    left: list[tuple[Any, Any]] = []  # what the batches so far left over, fewer than m samples
    for inputs, targets, _ in problem.batches_with_units():
        left.append((inputs, targets))
        held = sum(len(pair[1]) for pair in left)
        if held >= m:
            joined = join(left) if len(left) > 1 else left[0]
            whole = held - held % m
            for start in range(0, whole, m):
                yield rows(joined[0], start, start + m), rows(joined[1], start, start + m)
            left = [(rows(joined[0], whole, held), rows(joined[1], whole, held))] if whole < held else []
    if left:
        yield join(left)


def first_batches(problem: Problem, n: int) -> list[tuple[Any, Any]]:
    """The first batches, as many as are needed to hold n samples; all where there are fewer."""
    found: list[tuple[Any, Any]] = []
    held = 0
    for inputs, targets, _ in problem.batches_with_units():
        if held < n:
            found.append((inputs, targets))
            held += len(targets)
    return found


def first_samples(problem: Problem, n: int) -> Problem:
    """The same function of the first n samples alone, in one batch; of all where there are fewer."""
    return problem.with_pairs([next(subsets(problem, n))])
