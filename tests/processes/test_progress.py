import io
import sys
from types import SimpleNamespace

import pytest

from landscape.processes import progress
from landscape.processes.progress import EVERY, Lines, progress_bar


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_every_thirty_seconds(capsys):
    clock = Clock()
    with Lines(40, unit="network", initial=10, clock=clock) as bar:
        bar.set_description("training")
        bar.set_postfix(loss="0.5")
        for _ in range(20):
            clock.now += 10.0
            bar.update()
    lines = capsys.readouterr().err.splitlines()
    # from 10 three more in 30 s, at last 28
    counts = zip([32, 40, 48, 55, 62, 70], range(13, 30, 3), strict=True)
    assert [line.split("/")[0] for line in lines] == [f"training:  {share}% {count}" for share, count in counts]
    assert "13/40 [00:30<04:30, " in lines[0]
    assert "loss=0.5" in lines[0]
    assert "\r" not in "".join(lines)


def test_short_work_leaves_no_line(capsys):
    clock = Clock()
    with Lines(None, unit="step", clock=clock) as bar:
        clock.now += EVERY - 0.1
        bar.update(5)
    assert capsys.readouterr().err == ""


def test_steps_of_an_unknown_number_are_counted(capsys):
    clock = Clock()
    with Lines(None, unit="step", clock=clock) as bar:
        clock.now += EVERY
        bar.update(60)
    assert capsys.readouterr().err == "60step [00:30,  2.00step/s]\n"


@pytest.mark.parametrize(
    ("asked", "stream", "expected"),
    [(None, io.StringIO, "lines"), (None, Terminal, "bar"), (True, io.StringIO, "bar"), (False, Terminal, "nothing")],
)
def test_a_bar_where_somebody_looks_at_it(asked, stream, expected, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream())
    with progress_bar(3, unit="point", progress=asked) as bar:
        for _ in range(3):
            bar.update()
    assert isinstance(bar, Lines) == (expected == "lines")
    assert ("3/3" in sys.stderr.getvalue()) == (expected == "bar")
    if expected == "nothing":
        assert bar.disable


def test_a_notebook_has_a_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not progress._watched()
    shell = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert not progress._watched()  # a shell in a terminal that is none
    shell.kernel = object()
    assert progress._watched()


def test_a_program_without_stderr_is_served(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert isinstance(progress_bar(1, unit="point"), Lines)
