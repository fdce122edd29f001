"""How the page names metrics and correlations."""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any

from landscape.plots.metrics import Interval
from landscape.plots.style import words
from landscape.study import Correlation

SHOWN = 6  # names in a sentence


def tau(found: Interval) -> str:
    """tau with its interval."""
    return _with_interval(found.tau, found.low, found.high)


def partial(found: Correlation) -> str:
    """The correlation given the training loss, with its interval."""
    return _with_interval(found.partial, found.partial_low, found.partial_high)


def _with_interval(value: float, low: float, high: float) -> str:
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]" if isfinite(low) else f"{value:+.2f} (no interval)"


def named(names: Sequence[str], text: Callable[[str], str] | None = None) -> str:
    """ " (a, b, c and 4 more)", empty for none."""
    if not names:
        return ""
    shown = [words(name) + (f" {text(name)}" if text else "") for name in names[:SHOWN]]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f" ({', '.join(shown)}{more})"


def both_ways(rising: Sequence[str], falling: Sequence[str], text: Callable[[str], str]) -> str:
    """Which metrics rise with the gap, and which fall."""
    return (
        f"Rising with it: {len(rising)}{named(rising, text)}. Falling as it rises: {len(falling)}{named(falling, text)}"
    )


def most(values: Mapping[str, float], text: Callable[[str], str]) -> str:
    """The largest and the least of many values, in words."""
    order = sorted((name for name, value in values.items() if isfinite(value)), key=lambda name: -values[name])
    if not order:
        return "none is known"
    first, last = order[:SHOWN], order[SHOWN:]
    told = ", ".join(f"{words(name)} {text(name)}" for name in first)
    return f"{told}{f', down to {words(last[-1])} {text(last[-1])}' if last else ''}"


def listed(names: Sequence[str]) -> str:
    """All names."""
    return ", ".join(words(name) for name in names)


def extreme(rows: Sequence[Mapping[str, Any]], key: str, choose: Any) -> str:
    """The least or the largest number of a column."""
    return f"{choose(row[key] for row in rows):.3f}"
