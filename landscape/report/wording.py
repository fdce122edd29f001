"""How the page names metrics and correlations."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from landscape.plots.style import words
from landscape.study import Correlation

SHOWN = 6  # names in a sentence


def tau(found: Correlation) -> str:
    """tau with its interval."""
    return f"{found.tau:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def partial(found: Correlation) -> str:
    """The correlation given the training loss, with its interval."""
    return f"{found.partial:+.2f} [{found.partial_low:+.2f}, {found.partial_high:+.2f}]"


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


def listed(names: Sequence[str]) -> str:
    """All names."""
    return ", ".join(words(name) for name in names)


def extreme(rows: Sequence[Mapping[str, Any]], key: str, choose: Any) -> str:
    """The least or the largest number of a column."""
    return f"{choose(row[key] for row in rows):.3f}"
