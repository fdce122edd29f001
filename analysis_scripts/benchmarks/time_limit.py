"""An end to what takes too long, whatever it does at the time."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class OutOfTimeError(BaseException):
    """Time is over; no Exception, for those are caught on the way by code that tries things."""


@contextmanager
def ended_after(limit: float) -> Iterator[None]:
    """OutOfTimeError once `limit` seconds are over."""

    def stop(*_: Any) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
