"""How far long work is: a bar on a terminal and in a notebook; in a log a line every 30 seconds."""

import sys
from collections.abc import Callable
from time import monotonic
from typing import Any

EVERY = 30.0  # seconds

Bar = Any  # tqdm's, or Lines


def progress_bar(
    total: float | None,
    *,
    unit: str,
    progress: bool | None = None,
    initial: float = 0,
    desc: str | None = None,
    bar_format: str | None = None,
    delay: float = 0.0,
) -> Bar:
    """A bar to be used as a context.

    Args:
        total: steps, where they are known.
        unit: of a step.
        progress: True for a bar wherever the output goes, False for nothing; default a bar where somebody looks at it,
            and lines on stderr elsewhere.
        initial: steps that were done before.
        desc, bar_format, delay: as tqdm has them; work that ends within `delay` seconds shows no bar.
    """
    if progress is None and not _watched():
        return Lines(total, unit=unit, initial=initial, desc=desc, bar_format=bar_format)
    from tqdm.auto import tqdm  # looks for a notebook when it is imported

    shown: dict[str, Any] = {"desc": desc, "bar_format": bar_format, "delay": delay, "disable": progress is False}
    return tqdm(total=total, unit=unit, initial=initial, **shown)


class Lines:
    """As much of tqdm as is used here, for a log: a line at the first step after every 30 seconds."""

    disable = True  # there is no bar

    def __init__(
        self,
        total: float | None,
        *,
        unit: str,
        initial: float = 0,
        desc: str | None = None,
        bar_format: str | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.total, self.unit, self.initial, self.n, self.format = total, unit, initial, initial, bar_format
        self.desc, self.postfix, self._clock = desc, "", clock
        self._began = self._said = clock()

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, n: float = 1) -> None:
        """So many steps more."""
        self.n += n
        now = self._clock()
        if now - self._said >= EVERY:
            self._said = now
            print(self._line(now - self._began), file=sys.stderr, flush=True)  # noqa: T201

    def set_description(self, desc: str, refresh: bool = True) -> None:  # noqa: ARG002  (tqdm's signature)
        """What is being done."""
        self.desc = desc

    def set_postfix(self, refresh: bool = True, **values: str) -> None:  # noqa: ARG002
        """What was found so far."""
        self.postfix = ", ".join(f"{name}={text}" for name, text in values.items())

    def _line(self, elapsed: float) -> str:
        from tqdm import tqdm

        line: str = tqdm.format_meter(
            self.n,
            self.total,  # type: ignore[arg-type]  # None: only counted
            elapsed,
            ncols=0,
            prefix=self.desc or "",
            unit=self.unit,
            postfix=self.postfix,
            bar_format=self.format,
            initial=self.initial,
        )
        return line


def _watched() -> bool:
    """Whether the output is a terminal's or a notebook's."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return bool(sys.stderr and sys.stderr.isatty()) or hasattr(shell, "kernel")  # a notebook's has one
