"""The console command, run in this process."""

import sys

import pytest

from landscape.cli import main


def run(*arguments: object) -> int:
    """The console command in this process; its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["landscape", *map(str, arguments)])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0
