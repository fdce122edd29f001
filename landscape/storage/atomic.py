"""Files appear whole or not at all: a reader never sees half of one, and a killed writer leaves the old one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path with the same suffix beside `target` to write to; renamed to `target` where the body does not raise."""
    partial = target.with_name(f"{target.stem}.partial{target.suffix}")
    yield partial
    partial.replace(target)
