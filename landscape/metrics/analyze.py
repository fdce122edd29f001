"""`analyze`: the metrics that are asked for, cheapest first, within a budget, from where a killed run stopped."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic

import torch

from landscape.checks import positive, require
from landscape.metrics.analysis_log import Keep, resumed
from landscape.metrics.metric import Metric, Settings, priced
from landscape.metrics.registry import METRICS
from landscape.metrics.shared import SHARED
from landscape.metrics.shared_computation import NOTHING, SharedComputation
from landscape.problem import Problem
from landscape.problem.cost import FORWARD
from landscape.processes.progress import Bar, progress_bar
from landscape.side_effects import random_source
from landscape.storage.results import Measurements
from landscape.storage.results.measurements import Spent

LONG = 0.5  # seconds after which what is loaded at the first gradient no longer counts, our choice
FORMAT = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"  # percent of the gradient-times


def analyze(
    problem: Problem,
    metrics: Sequence[str] | Mapping[str, Metric] | None = None,
    *,
    settings: Mapping[str, Settings] | None = None,
    generator: torch.Generator | None = None,
    budget: float | None = None,
    resume: str | Path | None = None,
    progress: bool | None = None,
    say: Callable[[str], None] | None = None,
) -> Measurements:
    """Compute metrics of one network, cheapest first.

    Each metric draws from its own random numbers, seeded from the generator and its name, so that its value does not
    depend on which others are asked for.

    Args:
        problem: the scalar function.
        metrics: names from `METRICS`, or records of your own by name, such as {"mine": Metric(function)}; default all
            of `METRICS` that apply to this problem.
        settings: metric to keyword arguments that replace its defaults, for instance {"m_sharpness": {"m": 128}}.
        generator: default seed 0.
        budget: seconds; a metric expected to end later (middle of its range) is left out. What has begun is ended.
        resume: a text file that keeps each metric when it is done: a killed run, called again, goes on from there
            and ends with the same numbers, also with other metrics.
        progress: show a bar with the time left, and what `say` is told; default on a terminal and in a notebook, else a
            line every 30 s.
        say: is told before it begins what it will cost, a range where there are ascents; default on the bar.
    Returns:
        Name to Estimate, the metrics asked for, in order, with their costs; `str`, `rows`, `to_csv`, `to_json` make a
        table. `shared`: the cost of shared work; `left_out`: why a metric is not there, the others go on.
    Raises:
        ValueError: if no known metric is named, budget is not positive, resume= keeps other work, or the loss is NaN.
        Exception: of the first metric, where not one could be computed.
    """
    names, settings = list(METRICS if metrics is None else metrics), settings or {}
    known = _known(names, settings, metrics if isinstance(metrics, Mapping) else {})
    _check(problem, budget, resume)
    ends = None if budget is None else monotonic() + budget
    source = random_source(generator)
    seed = int(torch.randint(2**62, (), generator=source, device=source.device))
    with resumed(resume, problem, settings, seed) as (kept, shared, keep):

        def note(what: str, spent: Spent) -> None:
            shared[what] = spent
            keep(what, spent)

        work = SharedComputation(problem, known, settings, seed, note)
        work.estimates.update({name: kept[name] for name in names if name in kept})
        missing = [name for name in names if name not in work.estimates]
        pace = _pace(work, shared) if missing else 0.0
        with _bar(work, missing, progress) as bar:
            if missing:
                (say or _on(bar))(_statement(work, missing, pace))
            left_out, errors = _measure(work, missing, keep, bar, pace, ends)
    if errors and len(left_out) == len(names):
        raise errors[0]
    found = {name: work.estimate(name) for name in names if name not in left_out}
    own = {what: cost for what, cost in shared.items() if what not in found}
    return Measurements(found, own, left_out, {name: work.uses(name) for name in found})


def _check(problem: Problem, budget: float | None, resume: str | Path | None) -> None:
    if budget is not None:
        positive("budget", budget)
    require(
        budget is None or problem.process_group is None,
        f"budget must be None on several processes, whose clocks would end it apart, got {budget}; name fewer metrics",
    )
    require(resume is None or problem.shards is None, "resume must be None for a sharded model, whose parts differ")


def _known(names: Sequence[str], settings: Mapping[str, Settings], own: Mapping[str, Metric]) -> dict[str, Metric]:
    """The listed metrics and the caller's own."""
    known = {**METRICS, **own}
    require(len(names) > 0, f"metrics must name at least one of {', '.join(known)}; got none")
    unknown = [name for name in [*names, *settings] if name not in known]
    require(not unknown, f"metrics must be among {', '.join(known)}; got {', '.join(unknown)}")
    for name, metric in known.items():
        is_record = isinstance(metric, Metric)
        require(is_record, f"metric {name} must be a record, got {type(metric).__name__}; write Metric(function)")
        needs = [key for key in metric.needs if key not in SHARED and key not in known]
        require(not needs, f"metric {name} may need {', '.join([*SHARED, *known])}; got {', '.join(needs)}")
    return known


def _pace(work: SharedComputation, shared: Mapping[str, Spent]) -> float:
    """Seconds of one gradient; a short one is timed again, because the first has to load things."""
    try:
        work.shared("origin")
    except ValueError:  # the loss or its gradient is not finite: there is nothing to measure
        raise
    except Exception:  # there is no gradient, which the metrics that need one will say
        return priced(work.problem, work.problem.loss)[1].seconds / FORWARD
    first = shared[SHARED["origin"].what]
    if first.seconds > LONG or work.problem.process_group is not None:  # clocks differ, and passes must not
        return first.seconds
    _, again = priced(work.problem, work.problem.loss_and_gradient)
    work.note("timing a gradient", again)
    return min(first.seconds, again.seconds)


def _measure(
    work: SharedComputation, names: Sequence[str], keep: Keep, bar: Bar, pace: float, ends: float | None
) -> tuple[dict[str, str], list[Exception]]:
    """Do the work, cheapest first. Returns the metrics left out, with the reason, and what some of them raised."""
    left_out: dict[str, str] = {}
    errors: list[Exception] = []
    waiting = list(names)
    while waiting:
        name = min(waiting, key=lambda name: work.expected(name).middle)
        waiting.remove(name)
        cost = work.expected(name)
        bar.set_description(name)
        if ends is not None and monotonic() + pace * cost.middle > ends:
            left = max(ends - monotonic(), 0.0)
            left_out[name] = f"about {cost} gradient-times, {pace * cost.middle:.2g} s; {left:.2g} s were left"
            continue
        try:
            found = work.estimate(name)
        except Exception as error:  # of any kind: what is done already shall not be lost
            left_out[name] = _in_one_line(error)
            errors.append(error)
        else:
            keep(name, found)
        bar.update(cost.middle)
    return left_out, errors


def _in_one_line(error: Exception) -> str:
    """The first line of what it says; its kind too, unless it is a refusal in words of ours."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, ValueError) and said:
        return said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _statement(work: SharedComputation, names: Sequence[str], pace: float) -> str:
    """What the work will cost, by metric in the order in which they will be done, about."""
    costs = work.expected_together(names)
    total = sum(costs.values(), NOTHING)
    parts = ", ".join(f"{name} {cost}" for name, cost in costs.items())
    return f"about {total} gradient-times of {pace:.2g} s, {total * pace} s in all: {parts}"


def _bar(work: SharedComputation, names: Sequence[str], progress: bool | None) -> Bar:
    total = sum(cost.middle for cost in work.expected_together(names).values())
    return progress_bar(total, unit="gradient", progress=progress, bar_format=FORMAT)


def _on(bar: Bar) -> Callable[[str], None]:
    """What `say` is by default: above the bar, or nothing where there is none."""
    return lambda text: None if bar.disable else bar.write(text, file=sys.stderr)
